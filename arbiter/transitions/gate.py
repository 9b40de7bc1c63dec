"""The gate: when a start is released and with which size, or refused and why.

Imports the package's state and actions and the core's data types.
"""

from collections.abc import Iterator
from dataclasses import replace

from arbiter.demand import Demand
from arbiter.ids import GpuUuid
from arbiter.transitions.actions import Action, Refuse, Release
from arbiter.transitions.container import Container, Presence, Request
from arbiter.transitions.node import Node, rank
from arbiter.transitions.record import Size
from arbiter.units import format_mib

START_WAIT = 25.0
"""Seconds until a start is refused: the kubelet gives up after 30 s and then shows its own words instead of ours."""

SIZED_ONCE_MARGIN = 1.0
"""How much sooner a container that is sized once takes what is free, though it is not all of its target."""

TARGET_WAIT = 10.0
"""How long a start waits for a first target, before it takes its floor."""

NAMED_NEIGHBOURS = 3


def release_starts(node: Node, *, now: float) -> Iterator[Action]:
    """Release the gated starts whose floor is free and whose size is settled, in order."""
    for container in sorted((c for c in node.containers.values() if c.request is not None), key=rank):
        request, demand = container.request, container.demand
        if request is None or demand is None or not _is_open(node, container):
            continue
        size = _first_size(node, container, demand, request=request, now=now)
        if size is None:
            continue
        record = container.record.stop(keep=False).promise(size=size, now=now)
        container.record = replace(record, released_at=now)
        container.request = None
        if request.acknowledged:
            container.acknowledge(revision=record.revision, vram=size.vram, now=now)
        yield Release(record.uid, request.start)


def refuse_starts(node: Node, *, now: float) -> Iterator[Action]:
    """Refuse the starts that have waited too long or that can never be released."""
    for container in node.containers.values():
        request = container.request
        if request is None:
            continue
        is_over = container.presence in (Presence.TERMINATING, Presence.ENDED)
        if is_over or now >= request.at + node.start_wait:
            container.request = None
            sentence = "its pod is being deleted" if is_over else _why_held(node, container)
            yield Refuse(container.record.uid, request.start, f"start held: {sentence}")
        else:
            node.wake(request.at + node.start_wait)


def _is_open(node: Node, container: Container) -> bool:
    is_known = node.is_listed and container.is_gated and bool(container.record.gpus)
    return is_known and node.short_of(container) is None


def _first_size(node: Node, container: Container, demand: Demand, *, request: Request, now: float) -> Size | None:
    """The size to start with, or None while the start has to wait.

    A restart gets what was reserved for it; a first start its target as far as it is free, never less than the floor.
    """
    last, room = container.record.granted, node.room(container)
    if demand.is_fixed:
        return Size(*demand.fitting(demand.full))
    if last is not None:
        return Size(*demand.fitting(min(last.vram, room), at_most=last.quality))
    wanted = container.wanted
    if wanted is None:
        if now < container.seen_at + TARGET_WAIT:
            node.wake(container.seen_at + TARGET_WAIT)
            return None
        return Size(*demand.fitting(demand.floor, at_most=demand.minimum))
    settles_at = request.at + node.start_wait - SIZED_ONCE_MARGIN
    if room < wanted.vram and not container.is_resizable(node.policy) and now < settles_at:
        node.wake(settles_at)
        return None
    return Size(*demand.fitting(min(wanted.vram, room), at_most=wanted.quality))


def _why_held(node: Node, container: Container) -> str:
    if not node.is_listed:
        return "the pods of this node have not been listed yet"
    if container.presence is not Presence.LIVE:
        return "its pod has not been seen on this node yet"
    if not container.record.gpus:
        return "its GPUs are not known yet"
    gpu = node.short_of(container)
    if gpu is None:
        return "its size is not settled yet"
    name = node.names.get(gpu, gpu)
    free = max(0, node.free_floor(gpu, container))
    reasons = _reasons(node, gpu, container)[:NAMED_NEIGHBOURS]
    return "; ".join([f"needs {format_mib(container.floor)} on {name}, {format_mib(free)} free", *reasons])


def _reasons(node: Node, gpu: GpuUuid, container: Container) -> list[str]:
    """Whose bytes the start waits for: those being given back first, then those of pods that are ending."""
    giving, ending, holding = [], [], []
    for other in sorted(node.neighbours(gpu, container), key=lambda other: -other.record.may_hold):
        name, held = other.record.name or other.record.uid, other.record.may_hold
        if other.presence in (Presence.TERMINATING, Presence.VANISHED) and held:
            ending.append(f"{name} is ending and may hold {format_mib(held)}")
        elif other.excess:
            giving.append(f"{name} is giving back {format_mib(other.excess)}")
        elif held > other.floor:
            holding.append(f"{name} holds {format_mib(held)}")
    return giving + ending or holding
