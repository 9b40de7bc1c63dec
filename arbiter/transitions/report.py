"""What a container is told, and what is reported about it.

Imports the package's state and actions.
"""

from arbiter.transitions.actions import Grant, GrantReason, GrantState, GrantStatus
from arbiter.transitions.container import Container, Presence
from arbiter.transitions.node import Node


def grant_of(node: Node, container: Container) -> Grant | None:
    """What a started container of an observed pod is told; None where there is nobody to tell."""
    last = container.record.granted
    if last is None or not container.is_released or container.pod is None:
        return None
    wanted = container.wanted
    return Grant(
        revision=last.revision,
        quality=last.quality,
        vram=last.vram,
        target=wanted.quality if wanted and container.is_resizable(node.policy) else last.quality,
        reason=_reason(node, container),
    )


def status_of(node: Node, container: Container, *, now: float) -> GrantStatus:
    """The container's line in GpuNode."""
    record = container.record
    last = record.granted
    return GrantStatus(
        uid=record.uid,
        name=record.name,
        gpus=record.gpus,
        start=record.start,
        revision=record.revision,
        quality=last.quality if last else None,
        granted=last.vram if last else 0,
        held=record.may_hold,
        acknowledged=record.acknowledged,
        applied=record.applied,
        measured=container.measured,
        movable=_is_movable(node, container),
        state=_state(node, container, now=now),
        waiting=node.is_waiting(container),
        gone=container.presence is Presence.VANISHED,
    )


def _is_movable(node: Node, container: Container) -> bool:
    record = container.record
    is_heard = container.is_released and record.acknowledged > 0 and not record.late
    return is_heard and container.is_resizable(node.policy) and container.presence is not Presence.VANISHED


def _state(node: Node, container: Container, *, now: float) -> GrantState:
    if not container.is_released:
        is_first = container.record.revision == 0
        return GrantState.GATED if container.request or is_first else GrantState.DOWN
    if container.is_overdue:
        return GrantState.OVERDUE
    if container.record.late:
        return GrantState.LATE
    window = node.policy.start_window
    # One that is ready but has yet to say that it can move counts as movable all the same, or each start would make
    # its neighbours' targets swing.
    is_awaited = container.is_resizable(node.policy) and container.may_still_answer(now=now, window=window)
    if is_awaited or container.is_starting(now=now, window=window):
        return GrantState.STARTING
    return GrantState.MOVABLE if _is_movable(node, container) else GrantState.HELD


def _reason(node: Node, container: Container) -> GrantReason:
    last, wanted = container.record.granted, container.wanted
    if last is None or wanted is None:
        return GrantReason.NO_TARGET
    if last.size == wanted:
        return GrantReason.TARGET
    if not container.is_resizable(node.policy):
        return GrantReason.SIZED_ONCE
    return GrantReason.GROWS_LATER if wanted.vram > last.vram else GrantReason.SHRINKS_LATER
