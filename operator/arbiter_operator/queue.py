"""Pods that wait for room: told what they lack, woken when it is there, and given room by preemption.

Decisions are in `places` and `preemption`; here they are gathered, remembered as far as sentences need it, and
carried out.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from arbiter.ids import PodUid
from arbiter_kube.api.annotations import NOMINATED, WAKE, Nomination, encode_nomination
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.client import EvictionRefused, Forbidden, KubeError
from arbiter_kube.client.events import EventRecorder, Notice
from arbiter_operator.agenda import steady_time
from arbiter_operator.cluster import Cluster, allocation_key
from arbiter_operator.history import History
from arbiter_operator.metrics import PREEMPTIONS
from arbiter_operator.notices import (
    preempted_message,
    preempted_notices,
    preempting_notices,
    timeout_notices,
    waiting_notices,
)
from arbiter_operator.places import Queued, is_nominated, queued
from arbiter_operator.preemption import Preemption, fits_soon, preemption
from arbiter_operator.protected import Protected
from arbiter_operator.rooms import Rooms
from arbiter_operator.waiting import WAKE_INTERVAL, Waiting
from arbiter_operator.writer import Writer

NOMINATED_FOR = timedelta(minutes=5)
"""How long room is kept for a pod after others left for it."""

SETTLING = timedelta(seconds=30)
"""How long after that nobody else leaves for it: the watch may be late to show who goes."""

IN_VAIN_FOR = timedelta(hours=1)
"""How long nobody leaves for a pod that did not take the room kept for it, though it was there: what keeps it away is
nothing that is seen here."""

SLOWEST_WAKE = 60.0

REST = 10
"""How many times as long as it takes, a look at the queue is followed by none: whoever waits in a cluster of a thousand
nodes costs tens of milliseconds at every change anywhere, and as many again where somebody else might leave for it."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preempted:
    """A pod that was evicted for another one, and the sentence that says so."""

    victim: PodUid
    message: str

    def is_seen(self, pods: Iterable[GpuPod]) -> bool:
        """Whether the watch shows by now that it leaves; until then `pods` have it as if nothing had happened."""
        return all(pod.terminating for pod in pods if pod.uid == self.victim)


class Queue:
    """Who waits, since the last `reconcile()`, and what for. `clock`: seconds since the epoch."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        writer: Writer,
        recorder: EventRecorder,
        history: History,
        rooms: Rooms,
        protected: Protected,
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._writer = writer
        self._recorder = recorder
        self._history = history
        self._clock = clock
        self.waits: Mapping[PodUid, tuple[Waiting, str]] = {}
        """Those who wait, and the shortage that each waits for; empty where there is room."""
        self.next_at: float | None = None
        """When to look again although nothing happened."""
        self._rests_until = 0.0
        self._statuses: dict[PodUid, tuple[ObjectKey | None, str, float, bool]] = {}
        """What an allocation's status says of each: the shortage, when it times out (s), and whether it has."""
        self.preempted: dict[ObjectKey, Preempted] = {}
        """Allocations of whose pods one was evicted, and for whom, until their status says so."""
        self._wakes: dict[PodUid, int] = {}
        self._offered: set[PodUid] = set()
        """Those for whom others left, and who then had room."""
        self._rooms = rooms
        self._protected = protected

    async def reconcile(self) -> None:
        """Looks at everybody who waits, unless it has looked just now: then it says when to come again."""
        now, begun = self._clock(), steady_time()
        if begun < self._rests_until:
            self.next_at = now + self._rests_until - begun
            return
        self._rests_until = begun
        seen = [one async for one in self._in_turns(queued(self._cluster, self._rooms, now))]
        self.waits = {one.wait.pod.uid: (one.wait, one.shortage) for one in seen}
        self._mark_changed(now)
        for wait, short in self.waits.values():
            self._tell_waiting(wait, short, now)
        fitting = [one.wait for one in seen if not one.shortage]
        self._wakes = {wait.pod.uid: self._wakes.get(wait.pod.uid, 0) for wait in fitting}
        self._offered &= self.waits.keys()
        self._offered |= {wait.pod.uid for wait in fitting if wait.pod.nomination is not None}
        due = (wait for wait in fitting if wait.is_due(now, interval=self._interval(wait)))
        await asyncio.gather(*(self._wake(wait, now) for wait in due))
        await self._preempt_for([one for one in seen if one.shortage])
        moments = (moment for one in seen for moment in (one.wait.times_out_at, now + WAKE_INTERVAL))
        self.next_at = min((moment for moment in moments if moment > now), default=None)

    async def _in_turns(self, steps: Iterator[T]) -> AsyncIterator[T]:
        """Each step, and a turn for others after it: all of them together may take longer than a lease lasts."""
        while True:
            begun = steady_time()
            step = next(steps, None)
            self._rests_until += REST * (steady_time() - begun)
            if step is None:
                return
            yield step
            await asyncio.sleep(0)

    # Sentences

    def _mark_changed(self, now: float) -> None:
        """Has the allocations looked at of whose pods there is something else to say."""
        before = self._statuses
        self._statuses = {
            uid: (allocation_key(wait.pod), short, wait.times_out_at, now >= wait.times_out_at)
            for uid, (wait, short) in self.waits.items()
        }
        changed = (key for _, (key, *_) in before.items() ^ self._statuses.items())
        self._cluster.changed_allocations.update(key for key in changed if key is not None)

    def _tell_waiting(self, wait: Waiting, short: str, now: float) -> None:
        uid, allocation = wait.pod.uid, self._allocation_of(wait.pod)
        if short and self._history.tell_changed(uid, "VramWaiting", message=short, at=steady_time()):
            self._tell(waiting_notices(wait, short, allocation=allocation))
        if now >= wait.times_out_at and self._history.tell_once(uid, "VramTimeout", at=steady_time()):
            self._tell(timeout_notices(wait, short, allocation=allocation))

    # What is done for them

    def _interval(self, wait: Waiting) -> float:
        """Seconds between two wakes: what keeps a pod that fits from its node may be nothing that we see."""
        return min(SLOWEST_WAKE, WAKE_INTERVAL * 2.0 ** max(0, self._wakes.get(wait.pod.uid, 0) - 1))

    async def _wake(self, wait: Waiting, now: float) -> None:
        """Changes an annotation, upon which kube-scheduler tries the pod again."""
        known = self._cluster.pod(wait.pod.uid)
        if known is None or known.seen.node is not None:
            return  # it found room since it was looked at
        try:
            written = await self._writer.annotate(wait.pod, {WAKE: f"{now:.3f}"})
        except KubeError as error:
            _log.warning("pod not woken pod=%s error=%s", wait.pod.key, error)
            return
        self._wakes[wait.pod.uid] = self._wakes.get(wait.pod.uid, 0) + 1
        if written is not None:
            self._cluster.pod_written(written)

    async def _preempt_for(self, seen: Iterable[Queued]) -> None:
        """For one pod at a time, the most important first: the watch tells what its victims left, and wakes us."""
        policy = self._cluster.default_policy
        if policy is not None and policy.spec.preemption is False:
            return
        async for pod, plan in self._in_turns(self._plans(seen)):
            if plan is not None and await self._preempt(pod, plan):
                return

    def _plans(self, seen: Iterable[Queued]) -> Iterator[tuple[GpuPod, Preemption | None]]:
        """Who would leave for each; of a kind that nobody can leave for, or need not, one stands for all."""
        settled: set[Hashable] = set()
        for one in sorted(seen, key=lambda one: -one.wait.pod.demand.priority.level):
            if one.kind in settled:
                continue
            plan = self._plan(one)
            if plan is None:
                settled.add(one.kind)
            else:
                # Others had their turn since it was looked at: it may have found room, or be gone.
                again = next(queued(self._cluster, self._rooms, self._clock(), only=one.wait.pod.uid), None)
                plan = self._plan(again) if again is not None and again.shortage else None
            yield one.wait.pod, plan

    def _plan(self, one: Queued) -> Preemption | None:
        if self._is_helped(one, self._clock()):
            return None
        return preemption(one.wait.pod, one.wanted, one.places, spared=self._protected.at(steady_time()))

    def _is_helped(self, one: Queued, now: float) -> bool:
        """Whether it is enough to wait: for those who leave anyway, or who were evicted for it.

        An eviction that came to nothing, since the API server was away or the leader was killed in between, is made up
        for.
        """
        pod, nomination = one.wait.pod, one.wait.pod.nomination
        if nomination is None:
            return fits_soon(pod, one.wanted, one.places)
        if is_nominated(pod, now):
            settled_at = (nomination.until - NOMINATED_FOR + SETTLING).timestamp()
            return now < settled_at or fits_soon(pod, one.wanted, one.places, nominated=True)
        is_in_vain = pod.uid in self._offered and now < (nomination.until + IN_VAIN_FOR).timestamp()
        return is_in_vain or fits_soon(pod, one.wanted, one.places)

    async def _preempt(self, pod: GpuPod, plan: Preemption) -> bool:
        """Keeps the room, then evicts; whether anything was done. Nobody is evicted when one of them is protected."""
        try:
            for victim in plan.victims:
                if not await self._may_leave(victim):
                    return False
            until = datetime.fromtimestamp(self._clock(), UTC) + NOMINATED_FOR
            nomination = Nomination(node=plan.node, gpus=plan.gpus, until=until)
            written = await self._writer.annotate(pod, {NOMINATED: encode_nomination(nomination)})
            if written is None:
                return False
            self._cluster.pod_written(written)
            for victim in plan.victims:
                # One after another: a budget may let each of them leave, and not all.
                await self._evict(victim, pod, plan)
        except KubeError as error:
            _log.warning("preemption not carried out pod=%s error=%s", pod.key, error)
        return True

    async def _may_leave(self, victim: GpuPod) -> bool:
        try:
            await self._writer.evict(victim, dry_run=True)
        except (EvictionRefused, Forbidden) as error:
            _log.info("pod protected from eviction pod=%s error=%s", victim.key, error)
            self._protected.note(victim.uid, now=steady_time())
            return False
        return True

    async def _evict(self, victim: GpuPod, newcomer: GpuPod, plan: Preemption) -> None:
        if not await self._writer.evict(victim, dry_run=False):
            return
        PREEMPTIONS.inc()
        _log.info("pod evicted pod=%s for=%s node=%s", victim.key, newcomer.key, plan.node)
        state = self._cluster.node_state(plan.node)
        where = ", ".join(gpu if state is None else state.label(gpu) for gpu in plan.gpus)
        self._tell(preempted_notices(victim, newcomer, where, allocation=self._allocation_of(victim)))
        self._tell(preempting_notices(newcomer, victim, where, allocation=self._allocation_of(newcomer)))
        key = allocation_key(victim)
        if key is not None:
            self.preempted[key] = Preempted(victim.uid, f"{victim.name} {preempted_message(newcomer, where)}")
            self._cluster.changed_allocations.add(key)

    def _allocation_of(self, pod: GpuPod) -> GpuAllocation | None:
        key = allocation_key(pod)
        return None if key is None else self._cluster.allocations.get(key)

    def _tell(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self._recorder.record(notice)
