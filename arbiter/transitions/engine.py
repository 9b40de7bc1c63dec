"""The transition engine: applies one event, then lets the rules act, and answers with what is to be done.

Imports the package's rules and the core's data types.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.transitions import confirmation, gate, moves, report
from arbiter.transitions.actions import Action, Forget, Gated, GrantStatus, Publish, Refuse, Save
from arbiter.transitions.container import Container, Presence, Request
from arbiter.transitions.events import (
    Acknowledged,
    Ended,
    Event,
    Exited,
    GpusChanged,
    Measured,
    PodObserved,
    PodsListed,
    PodVanished,
    PolicyChanged,
    StartAbandoned,
    StartRequested,
    Tick,
)
from arbiter.transitions.node import Node
from arbiter.transitions.record import Record

KEPT_FOR_RESTART = (Presence.LIVE, Presence.UNKNOWN)
"""Pods whose last grant stays reserved while their container is down."""


class Engine:
    """One node's containers and their grants.

    `usable` are bytes per GPU, `names` what people call the GPUs (``gpu-1/0``), `records` what was saved before,
    `now` and every other time seconds since the epoch, on a clock that does not step back while the engine lives
    (the wall clock at its start plus a monotonic one). `start_wait` is how long a start waits before it is refused.
    Nothing is released and nothing grows before the first `PodsListed`.
    """

    def __init__(
        self,
        *,
        usable: Mapping[GpuUuid, int],
        policy: Policy,
        now: float,
        records: Iterable[Record] = (),
        names: Mapping[GpuUuid, str] | None = None,
        start_wait: float = gate.START_WAIT,
    ) -> None:
        self._now = now
        self._saved = {record.uid: record for record in records}
        self._node = Node(usable=usable, names=names or {}, policy=policy, started_at=now, start_wait=start_wait)
        for uid, record in self._saved.items():
            self._node.containers[uid] = Container(record.not_after(now))

    def handle(self, event: Event, now: float) -> tuple[Action, ...]:
        """Apply the event and answer with what is to be done, in this order.

        Records that promise less are saved before those that promise more, and every record before anybody is told.
        """
        return self.handle_all((event,), now)

    def handle_all(self, events: Sequence[Event], now: float) -> tuple[Action, ...]:
        """Apply events that are one change, such as everybody's new targets, before any rule acts on one of them."""
        self._now = now
        node = self._node
        node.deadline = None
        answers = [answer for event in events for answer in self._apply(event)]
        notices = list(confirmation.mark_overdue(node, now=now))
        moves.shrink_down(node, now=now)
        moves.shrink(node, now=now)
        released = list(gate.release_starts(node, now=now))
        moves.grow(node, now=now)
        refused = list(gate.refuse_starts(node, now=now))
        measures = list(confirmation.request_measurements(node, now=now))
        self._wake_for_start_windows()
        gated = self._gated(events)
        dropped = list(self._drop())
        return (*dropped, *self._saves(), *self._publish(), *answers, *gated, *released, *refused, *notices, *measures)

    def next_deadline(self) -> float | None:
        """When a `Tick` is due, if nothing else happens before."""
        return self._node.deadline

    def statuses(self) -> tuple[GrantStatus, ...]:
        """Every grant, by UID. Worth publishing after the first `PodsListed`: before it nobody is movable."""
        containers = sorted(self._node.containers.values(), key=lambda container: container.record.uid)
        return tuple(report.status_of(self._node, container, now=self._now) for container in containers)

    def status(self, uid: PodUid) -> GrantStatus | None:
        """One grant; None where the container is unknown."""
        container = self._node.containers.get(uid)
        return None if container is None else report.status_of(self._node, container, now=self._now)

    def _apply(self, event: Event) -> Iterator[Action]:
        match event:
            case PodObserved():
                self._observe(event)
            case PodsListed(uids):
                self._node.is_listed = True
                for uid in self._node.containers.keys() - uids:
                    self._vanish(uid)
            case PodVanished(uid):
                self._vanish(uid)
            case StartRequested():
                yield from self._request(event)
            case GpusChanged(usable):
                self._node.usable = usable
            case PolicyChanged(policy):
                self._node.policy = policy
            case Tick():
                pass
            case StartAbandoned() | Exited() | Ended() | Acknowledged() | Measured():
                container = self._node.containers.get(event.uid)
                if container is not None:
                    self._apply_to(container, event)
            case _:
                assert_never(event)

    def _apply_to(self, container: Container, event: StartAbandoned | Exited | Ended | Acknowledged | Measured) -> None:
        match event:
            case StartAbandoned(_, start):
                if container.request and container.request.start == start:
                    container.request = None
            case Exited(_, start):
                if container.is_released and container.record.start == start:
                    container.stop(keep=container.presence in KEPT_FOR_RESTART)
            case Ended():
                container.presence = Presence.ENDED
                container.stop(keep=False)
            case Acknowledged():
                confirmation.acknowledge(container, event, now=self._now)
            case Measured():
                confirmation.measure(container, event, now=self._now)
            case _:
                assert_never(event)

    def _observe(self, event: PodObserved) -> None:
        container = self._container(event.uid)
        if container.presence is Presence.ENDED:
            return
        was = container.pod
        if was is None:
            container.seen_at = self._now
        is_terminating = event.terminating or (was is not None and was.terminating)
        container.observe(event if event.terminating is is_terminating else replace(event, terminating=True))
        container.presence = Presence.TERMINATING if is_terminating else Presence.LIVE
        container.ready = container.ready or (event.ready and container.is_released)
        if container.record.name != event.name:
            container.record = replace(container.record, name=event.name)
        container.take_over_gpus()
        if is_terminating and not container.is_released:
            container.stop(keep=False)

    def _vanish(self, uid: PodUid) -> None:
        container = self._node.containers.get(uid)
        if container is None or container.presence is Presence.ENDED:
            return
        container.presence = Presence.VANISHED
        if not container.is_released:
            container.stop(keep=False)

    def _request(self, event: StartRequested) -> Iterator[Action]:
        container = self._container(event.uid)
        if container.request is not None:
            yield Refuse(event.uid, container.request.start, "start held: it was asked for again")
        container.stop(keep=container.presence in KEPT_FOR_RESTART)
        container.take_over_gpus()
        container.record = replace(container.record, start=container.record.start + 1)
        container.request = Request(container.record.start, self._now, event.acknowledged)

    def _gated(self, events: Iterable[Event]) -> Iterator[Action]:
        for event in events:
            container = self._node.containers.get(event.uid) if isinstance(event, StartRequested) else None
            if container is not None and container.request is not None:
                yield Gated(container.record.uid, container.request.start)

    def _container(self, uid: PodUid) -> Container:
        known = self._node.containers.get(uid)
        if known is None:
            known = self._node.containers[uid] = Container(Record(uid=uid))
        return known

    def _wake_for_start_windows(self) -> None:
        window = self._node.policy.start_window
        for container in self._node.containers.values():
            released_at = container.record.released_at
            if released_at is not None and container.may_still_answer(now=self._now, window=window):
                self._node.wake(released_at + window)

    def _drop(self) -> Iterator[Action]:
        """Forget the containers that hold nothing and cannot come back, once it is known which pods exist."""
        if not self._node.is_listed:
            return
        for uid, container in list(self._node.containers.items()):
            never_seen = container.presence in (Presence.UNKNOWN, Presence.VANISHED) and container.record.revision == 0
            if container.presence is Presence.ENDED or (never_seen and container.request is None):
                del self._node.containers[uid]
                if self._saved.pop(uid, None) is not None:
                    yield Forget(uid)

    def _saves(self) -> list[Action]:
        changed = [
            container.record
            for uid, container in self._node.containers.items()
            if container.record is not self._saved.get(uid)
            and container.record.start
            and container.record != self._saved.get(uid)
        ]
        changed.sort(key=lambda record: record.may_hold - self._saved.get(record.uid, Record(uid=record.uid)).may_hold)
        self._saved.update({record.uid: record for record in changed})
        return [Save(record) for record in changed]

    def _publish(self) -> Iterator[Action]:
        for uid, container in self._node.containers.items():
            facts = (container.record, container.pod, self._node.policy)
            if facts == container.published_for:
                continue
            grant = report.grant_of(self._node, container)
            if grant is not None and grant != container.published:
                yield Publish(uid, grant)
            container.published, container.published_for = grant, facts
