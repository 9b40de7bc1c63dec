"""Carries out what the transition engine decides, one event after another and each action finished before the next.

The only caller of the engine. What cannot be carried out (a full disk) ends `run()` and with it the process, which
comes back with what is on the disk: going on could promise bytes that no record holds.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import assert_never

from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.transitions import (
    Acknowledged,
    Action,
    Ended,
    Engine,
    Event,
    Forget,
    Gated,
    Grant,
    GrantStatus,
    Measure,
    Measured,
    PodObserved,
    PodsListed,
    PodVanished,
    Publish,
    Record,
    Refuse,
    Release,
    Save,
    ShrinkOverdue,
    StartAbandoned,
    StartRequested,
    Target,
    Tick,
)
from arbiter_deviceplugin.admission import Identified, StartRefusedError
from arbiter_deviceplugin.allocations import Allocation, Allocations
from arbiter_deviceplugin.clock import Clock
from arbiter_deviceplugin.directories import Directories
from arbiter_deviceplugin.directory import Applied
from arbiter_deviceplugin.disk import Disk, StateError
from arbiter_deviceplugin.enforcement import Enforcer
from arbiter_deviceplugin.inventory import Inventory
from arbiter_deviceplugin.lifetimes import Start
from arbiter_deviceplugin.metrics import GRANT_LATENCY, SHRINKS_OVERDUE, STARTS_HELD
from arbiter_deviceplugin.target import told
from arbiter_kube.api.pods import GpuPod

_log = logging.getLogger(__name__)

_DISK_LIMIT = 20.0
"""A disk that hangs must not hold every start and answer for ever: the agent ends, and begins anew."""

LONGEST_START_WAIT = 27.0
_START_LIMIT = LONGEST_START_WAIT + 1.0
"""By then the engine has answered; the kubelet gives up after 30 s."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """Somebody who waits for the release of a start; its number is known once the engine was told."""

    uid: PodUid
    answer: asyncio.Future[None]
    start: int | None = None
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class _Told:
    """An event on its way to the engine; `done` is set after its actions. `pod` is what an observation is made of."""

    event: Event
    done: asyncio.Future[None]
    waiter: _Waiter | None = None
    pod: GpuPod | None = None


class Carrier:
    """The engine's shell. Keep `run()` going; everything else may be called while it does.

    A start that has to wait longer than `start_wait` (s) is refused.
    `latest` is the pod that the API server has by a UID, as far as the node knows; None once it is deleted. `changed`
    is called after every event: what the node says of itself may be another then.
    """

    def __init__(
        self,
        *,
        disk: Disk,
        allocations: Allocations,
        run_dir: Path,
        inventory: Inventory,
        enforcer: Enforcer,
        clock: Clock,
        policy: Policy,
        names: Mapping[GpuUuid, str],
        start_wait: float,
        latest: Callable[[PodUid], GpuPod | None],
        changed: Callable[[], None],
    ) -> None:
        self._disk = disk
        self._allocations = allocations
        self._inventory = inventory
        self._enforcer = enforcer
        self._clock = clock
        self._latest = latest
        self._changed = changed
        self.policy = policy
        self._records = {record.uid: record for record in disk.records()}
        self._engine = Engine(
            usable=inventory.usable(),
            policy=policy,
            now=clock.now(),
            records=self._records.values(),
            names=names,
            start_wait=start_wait,
        )
        self._queue: asyncio.Queue[_Told] = asyncio.Queue()
        self._pods: dict[PodUid, GpuPod] = {}
        self._grants: dict[PodUid, Grant] = {}
        self._untold: dict[PodUid, float] = {}
        self._waiters: list[_Waiter] = []
        self._directories = Directories(run_dir, acknowledge=self._acknowledge)
        self._measuring: set[asyncio.Task[None]] = set()

    def statuses(self) -> tuple[GrantStatus, ...]:
        """Every grant of the node."""
        return self._engine.statuses()

    def pod(self, uid: PodUid) -> GpuPod | None:
        """The pod of a grant as it was last observed."""
        return self._pods.get(uid)

    def released(self) -> dict[PodUid, Start]:
        """The starts that containers are in."""
        return {
            uid: Start(
                number=record.start,
                released_at=self._clock.wall(record.released_at),
                container=self._pods[uid].frozen.container,
            )
            for uid, record in self._records.items()
            if record.released_at is not None and uid in self._pods
        }

    async def run(self) -> None:
        """Serves events until it is cancelled; raises what kept an action from being carried out."""
        self._directories.serve(self._allocations.claimed())
        await self._directories.open_all()
        for record in self._records.values():
            await self._enforcer.follow(record)
        try:
            while True:
                await self._handle(await self._next())
        finally:
            await self._directories.close()

    async def tell(self, event: Event) -> None:
        """Returns after the event's actions were carried out."""
        await self._tell(event)

    async def observe(self, pod: GpuPod) -> None:
        """Tells the engine what the watch shows of a pod; its GPUs are those that its container really has."""
        allocation = self._allocations.of_pod(pod.uid)
        gpus = allocation.gpus if allocation else pod.gpus
        if not gpus:
            return
        await self._tell(_observed(pod, gpus), pod=pod)
        await self._publish(pod.uid)

    async def start(self, identified: Identified) -> None:
        """Returns once the container may start.

        Raises:
            StartRefusedError: not now.
        """
        asked_at = self._clock.now()
        try:
            await self._directories.open(identified.allocation)
        except OSError as error:
            raise StartRefusedError(f"start held: its directory cannot be made: {error.strerror}") from error
        waiter = _Waiter(identified.pod.uid, asyncio.get_running_loop().create_future())
        await self._observe_latest(waiter.uid)
        try:
            await self._tell(StartRequested(waiter.uid), waiter=waiter)
            async with asyncio.timeout(_START_LIMIT):
                await asyncio.shield(waiter.answer)
        except StartRefusedError:
            STARTS_HELD.labels("refused").observe(self._clock.now() - asked_at)
            raise
        except TimeoutError:
            raise StartRefusedError("start held: this node's agent is busy") from None
        finally:
            self._leave(waiter)
        STARTS_HELD.labels("released").observe(self._clock.now() - asked_at)

    async def _observe_latest(self, uid: PodUid) -> None:
        """Observes what the watch has shown since the start was identified, which may be that the pod was deleted.

        A deletion that came before the engine knew the pod would else never be heard, and its bytes never end.
        """
        pod = self._latest(uid)
        if pod is not None:
            await self.observe(pod)
        if self._latest(uid) is None:
            await self._tell(PodVanished(uid))
            raise StartRefusedError("start held: its pod has been deleted")

    async def ensure_directories(self) -> None:
        """Makes again the directories and sockets that somebody removed, and writes what could not be written."""
        await self._directories.open_all()
        for uid in list(self._grants):
            await self._publish(uid)

    async def discard(self, allocation: Allocation) -> None:
        """Forgets an allocation with its directory; where that cannot be removed, it is kept for another try."""
        try:
            await self._directories.remove(allocation)
        except OSError as error:  # what somebody did to it is not everybody's end
            _log.warning("directory not removed directory=%s error=%s", allocation.directory, error)
            return
        _log.info("allocation removed directory=%s uid=%s", allocation.directory, allocation.uid)
        complaint = f"the allocation {allocation.directory} is still on the disk"
        await self._on_disk(lambda: self._disk.delete_allocation(allocation), complaint=complaint)
        self._allocations.remove(allocation)

    async def _tell(self, event: Event, *, waiter: _Waiter | None = None, pod: GpuPod | None = None) -> None:
        done = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Told(event, done, waiter, pod))
        # Whoever asked may go away; what was begun is finished.
        await asyncio.shield(done)

    async def _next(self) -> _Told:
        deadline = self._engine.next_deadline()
        patience = None if deadline is None else max(0.0, deadline - self._clock.now())
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                return await self._queue.get()
        return _Told(Tick(), asyncio.get_running_loop().create_future())

    async def _handle(self, told_: _Told) -> None:
        if told_.pod is not None:
            self._note_seen(told_.pod)
        actions = self._engine.handle(told_.event, self._clock.now())
        if told_.waiter is not None:
            self._note_start(told_.waiter)
        for action in actions:
            await self._carry_out(action)
        if isinstance(told_.event, PodVanished | PodsListed | Ended):
            self._prune()
        if not told_.done.done():
            told_.done.set_result(None)
        self._changed()

    def _note_seen(self, pod: GpuPod) -> None:
        """Notes the pod, and when it was first seen where it has never been told anything."""
        if pod.uid not in self._pods and pod.uid not in self._records:
            self._untold[pod.uid] = self._clock.now()
        self._pods[pod.uid] = pod

    def _prune(self) -> None:
        """Forgets the pods that the engine does not know any more, those that never started among them."""
        known = {status.uid for status in self._engine.statuses()}
        for table in (self._pods, self._grants, self._untold):
            for uid in table.keys() - known:
                del table[uid]

    def _note_start(self, waiter: _Waiter) -> None:
        waiter.start = next(status.start for status in self._engine.statuses() if status.uid == waiter.uid)
        if waiter.is_gone:
            self._abandon(waiter)
        else:
            self._waiters.append(waiter)

    def _leave(self, waiter: _Waiter) -> None:
        waiter.is_gone = True
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            if not waiter.answer.done():
                self._abandon(waiter)
        waiter.answer.cancel()

    def _abandon(self, waiter: _Waiter) -> None:
        if waiter.start is not None:
            done = asyncio.get_running_loop().create_future()
            self._queue.put_nowait(_Told(StartAbandoned(waiter.uid, waiter.start), done))

    async def _carry_out(self, action: Action) -> None:
        match action:
            case Save(record):
                await self._save(record)
            case Forget(uid):
                await self._forget(uid)
            case Publish(uid, grant):
                self._grants[uid] = grant
                await self._publish(uid)
            case Gated(uid, start):
                _log.info("start waits pod=%s start=%d", self._name(uid), start)
            case Release(uid, start):
                await self._release(uid, start)
            case Refuse(uid, start, sentence):
                self._settle(uid, start, StartRefusedError(sentence))
            case Measure(uid):
                task = asyncio.create_task(self._measure(uid))
                self._measuring.add(task)
                task.add_done_callback(self._measuring.discard)
            case ShrinkOverdue(uid, excess):
                SHRINKS_OVERDUE.inc()
                _log.warning("shrink overdue pod=%s excess_bytes=%d", self._name(uid), excess)
            case _:
                assert_never(action)

    async def _save(self, record: Record) -> None:
        complaint = f"the record of {record.name or record.uid} is not on the disk"
        await self._on_disk(lambda: self._disk.save_record(record), complaint=complaint)
        self._records[record.uid] = record
        await self._enforcer.follow(record)

    async def _forget(self, uid: PodUid) -> None:
        _log.info("container forgotten pod=%s", self._name(uid))
        complaint = f"the record of {self._name(uid)} is still on the disk"
        await self._on_disk(lambda: self._disk.delete_record(uid), complaint=complaint)
        self._records.pop(uid, None)
        self._enforcer.forget(uid)
        for allocation in self._allocations.all_of_pod(uid):
            await self.discard(allocation)

    async def _on_disk(self, change: Callable[[], None], *, complaint: str) -> None:
        """Changes what is on the disk.

        Raises:
            StateError: it takes too long.
        """
        try:
            async with asyncio.timeout(_DISK_LIMIT):
                await asyncio.to_thread(change)
        except TimeoutError as error:
            raise StateError(f"{complaint} after {_DISK_LIMIT:g} s.") from error

    async def _release(self, uid: PodUid, start: int) -> None:
        """Lets the container start if it can read its grant: what a former start was told may be more.

        One that is refused here counts as started, with all that it may hold, until it is asked for again.
        """
        refusal = None
        try:
            await self._tell_grant(uid)
            _log.info("start released pod=%s start=%d", self._name(uid), start)
        except OSError as error:
            refusal = StartRefusedError(f"start held: its target cannot be written: {error.strerror}")
        self._settle(uid, start, refusal)

    def _settle(self, uid: PodUid, start: int, refusal: StartRefusedError | None) -> None:
        for waiter in self._waiters:
            if (waiter.uid, waiter.start) != (uid, start) or waiter.answer.done():
                continue
            if refusal is None:
                waiter.answer.set_result(None)
            else:
                waiter.answer.set_exception(refusal)

    async def _measure(self, uid: PodUid) -> None:
        pod = self._pods.get(uid)
        if pod is None:
            return
        at = self._clock.now()
        reading = await self._inventory.refresh()
        gpus = next((status.gpus for status in self._engine.statuses() if status.uid == uid), pod.gpus)
        # What was used when a GPU could still be read is no measurement of now; the engine asks again.
        if reading is not None and reading.unread.isdisjoint(gpus):
            await self._tell(Measured(uid=uid, vram=reading.use_of((pod.key, pod.local_uid), gpus), at=at))

    async def _publish(self, uid: PodUid) -> None:
        """Tells a container its grant, as far as that can be done.

        Where it fails a running one goes on with what it had, which its record holds, and is told later: what it did
        to its directory is not everybody's end.
        """
        try:
            await self._tell_grant(uid)
        except OSError as error:
            _log.warning("container not told pod=%s error=%s", self._name(uid), error)

    async def _tell_grant(self, uid: PodUid) -> None:
        """Tells a container its grant as it stands, in the words of the newest decision; twice is as good as once.

        Raises:
            OSError: its files cannot be written.
        """
        pod, grant, allocation = self._pods.get(uid), self._grants.get(uid), self._allocations.of_pod(uid)
        if pod is None or grant is None or allocation is None:
            return
        totals = self._inventory.totals(allocation.gpus)
        news = told(grant, demand=pod.demand, decision=pod.grant, mode=self.policy.mode, totals=totals)
        await self._directories.tell(allocation, news)
        if (seen_at := self._untold.pop(uid, None)) is not None:
            GRANT_LATENCY.observe(self._clock.now() - seen_at)

    async def _acknowledge(self, uid: PodUid, applied: Applied) -> None:
        await self._tell(Acknowledged(uid=uid, revision=applied.revision, vram=applied.vram_bytes))

    def _name(self, uid: PodUid) -> str:
        pod = self._pods.get(uid)
        return pod.key if pod else uid


def _observed(pod: GpuPod, gpus: tuple[GpuUuid, ...]) -> PodObserved:
    target = Target(quality=Fraction(pod.grant.quality), vram=pod.grant.vram) if pod.grant else None
    return PodObserved(
        uid=pod.uid,
        name=pod.key,
        demand=pod.demand,
        gpus=gpus,
        bound_at=pod.bound_at or pod.created_at,
        target=target,
        ready=pod.ready,
        terminating=pod.terminating,
    )
