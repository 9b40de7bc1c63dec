"""When a container is taken to hold less: acknowledged, measured where that is possible, and in time.

Imports the package's state and actions.
"""

from collections.abc import Iterator
from dataclasses import replace

from arbiter.transitions.actions import Action, Measure, ShrinkOverdue
from arbiter.transitions.container import Container
from arbiter.transitions.events import Acknowledged, Measured
from arbiter.transitions.node import Node
from arbiter.units import MIB

TOLERANCE = 64 * MIB
"""Measured use above the promise that still counts as within it: a driver's page and context bookkeeping."""

MEASURE_INTERVAL = 1.0

RESTART_ALLOWANCE = 5.0
"""After a start of the engine, time for acknowledgements that its absence kept from being heard (s)."""


def acknowledge(container: Container, event: Acknowledged, *, now: float) -> None:
    """Note an acknowledgement of a size that this start was told; others say nothing about what it holds now."""
    record = container.record
    promise = next((p for p in record.promises if p.revision == event.revision), None)
    if promise is None or not container.is_released or event.vram > promise.vram:
        return
    if event.revision < record.acknowledged:
        return
    container.acknowledge(revision=event.revision, vram=event.vram, now=now)


def measure(container: Container, event: Measured, *, now: float) -> None:
    """Note a measurement, and confirm the acknowledged size where it agrees."""
    container.measured = event.vram
    if not _is_unconfirmed(container) or event.at < container.acknowledged_at:
        return
    confirmed = container.record.confirm(container.record.acknowledged)
    if event.vram is not None and event.vram > confirmed.may_hold + TOLERANCE:
        return
    in_time = not _is_due(container, now=now)
    container.record = replace(confirmed, late=confirmed.late and not in_time)


def request_measurements(node: Node, *, now: float) -> Iterator[Action]:
    """Ask for a measurement of each acknowledged and unconfirmed size, once a second."""
    for container in node.containers.values():
        if not _is_unconfirmed(container):
            continue
        if now >= container.measure_at:
            container.measure_at = now + MEASURE_INTERVAL
            yield Measure(container.record.uid)
        node.wake(container.measure_at)


def mark_overdue(node: Node, *, now: float) -> Iterator[Action]:
    """Mark the containers that have not confirmed a shrink within their grace."""
    for container in node.containers.values():
        due = _due(container)
        if due is None:
            container.is_overdue = False
            continue
        due = max(due, node.started_at + RESTART_ALLOWANCE)
        if now < due:
            container.is_overdue = False
            node.wake(due)
        elif not container.is_overdue:
            container.is_overdue = True
            container.record = replace(container.record, late=True)
            yield ShrinkOverdue(container.record.uid, container.excess)


def _is_unconfirmed(container: Container) -> bool:
    record = container.record
    return any(promise.revision == record.acknowledged for promise in record.promises[1:])


def _due(container: Container) -> float | None:
    since, demand = container.record.shrinking_since, container.demand
    return since + demand.shrink_grace if since is not None and demand is not None else None


def _is_due(container: Container, *, now: float) -> bool:
    due = _due(container)
    return due is not None and now >= due
