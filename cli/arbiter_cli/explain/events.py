"""What happened to an object, as events tell it. Pure but for `read_events`."""

from collections.abc import Iterable
from dataclasses import dataclass

from arbiter_cli.access import Access
from arbiter_kube.api.objects import Event, ObjectKey
from arbiter_kube.api.resources import EVENTS
from arbiter_kube.client import Forbidden

_SHOWN = 5

_TELLING = frozenset(
    {
        "QualityReduced",
        "QualityRestored",
        "VramWaiting",
        "VramTimeout",
        "VramFound",
        "Preempting",
        "Preempted",
        "ShrinkOverdue",
        "Overcommitted",
        "GpuLost",
        "MeasuredAboveGrant",
        "FailedScheduling",
        "FailedCreate",
        "Failed",
    }
)
"""Reasons of events that have to do with GPU memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """An event about an object, last told `ago` seconds before."""

    ago: float
    reason: str
    message: str


def happenings(events: Iterable[Event], *, now: float) -> tuple[Happening, ...]:
    """The latest of those that have to do with GPU memory, the newest first; `now` in seconds since the epoch."""
    told = [
        Happening(ago=max(0.0, now - _at(event, now)), reason=event.reason, message=" ".join(event.message.split()))
        for event in events
        if event.reason in _TELLING
    ]
    return tuple(sorted(told, key=lambda one: one.ago)[:_SHOWN])


def _at(event: Event, now: float) -> float:
    moment = event.last_timestamp or event.first_timestamp or event.metadata.creation_timestamp
    return now if moment is None else moment.timestamp()


async def read_events(access: Access, kind: str, key: ObjectKey) -> tuple[Event, ...]:
    """Every event about an object; none for those who may not read events: they are no part of the answer itself."""
    try:
        return await access.client.list(
            EVENTS,
            namespace=key.namespace,
            field_selector=f"involvedObject.kind={kind},involvedObject.name={key.name}",
            within=access.within,
        )
    except Forbidden:
        return ()
