"""Shrinks and grows of containers that run, and shrinks of those that are down.

Imports the package's state and the core's data types.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from arbiter.transitions.container import Container, Presence
from arbiter.transitions.node import Node, rank
from arbiter.transitions.record import Promise, Size

DEAD_BAND = Fraction(1, 100)
"""A gain in quality below this is small: it never takes the last token of the bucket, unless it reaches full."""


def shrink_down(node: Node, *, now: float) -> None:
    """Lower what is reserved for containers that are down: nobody holds it, so the shrink is confirmed at once."""
    for container in node.containers.values():
        if container.is_released or container.presence is not Presence.LIVE or not container.is_resizable(node.policy):
            continue
        last, wanted = container.record.granted, container.wanted
        if last is not None and wanted is not None and wanted.vram < last.vram:
            container.record = replace(container.record, promises=()).promise(size=wanted, now=now)


def shrink(node: Node, *, now: float) -> None:
    """Promise less where the target is lower, or another quality at the same size."""
    for container, last, wanted in _moves(node):
        if wanted.vram > last.vram:
            continue
        if not node.is_still(container, now=now) or any(node.needs_bytes(gpu) for gpu in container.record.gpus):
            container.record = container.record.promise(size=wanted, now=now)


def grow(node: Node, *, now: float) -> None:
    """Promise more where the target is higher and bytes are free, as often as the token bucket allows."""
    if not node.is_listed:
        return
    for container, last, wanted in sorted(_moves(node), key=lambda move: rank(move[0])):
        if wanted.vram <= last.vram or container.presence is not Presence.LIVE:
            continue
        size = _grown(container, wanted, room=node.room(container))
        if size is None or size.vram <= last.vram or node.is_still(container, now=now):
            continue
        full_at = _bucket_full_at(node, container, now=now)
        is_small = size.quality - last.quality < DEAD_BAND and not _reaches_full(container, size)
        allowed_at = full_at if is_small else full_at - node.policy.restore_interval
        if now < allowed_at:
            node.wake(allowed_at)
            continue
        restored_until = max(now, full_at) + node.policy.restore_interval
        container.record = replace(container.record.promise(size=size, now=now), restored_until=restored_until)


def _grown(container: Container, wanted: Size, *, room: int) -> Size | None:
    demand = container.demand
    if demand is None or room < demand.floor:
        return None
    return Size(*demand.fitting(min(wanted.vram, room), at_most=wanted.quality))


def _bucket_full_at(node: Node, container: Container, *, now: float) -> float:
    """When the bucket, which holds two tokens and gains one per interval, is full again."""
    return min(container.record.restored_until, now + 2 * node.policy.restore_interval)


def _reaches_full(container: Container, size: Size) -> bool:
    return container.demand is not None and size.quality >= container.demand.maximum


def _moves(node: Node) -> Iterator[tuple[Container, Promise, Size]]:
    """The running containers that may move and are to have another size than they were told last: from and to."""
    for container in node.containers.values():
        last, wanted = container.record.granted, container.wanted
        if last is None or wanted is None or last.size is wanted or last.size == wanted:
            continue
        is_running = container.presence in (Presence.LIVE, Presence.TERMINATING) and container.is_released
        if is_running and container.record.acknowledged > 0 and container.is_resizable(node.policy):
            yield container, last, wanted
