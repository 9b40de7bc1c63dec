"""The reconcile loop: waits until something changed, lets the decisions look at it, writes what they say.

Level-triggered: every event only marks what to look at again. Each node, allocation and policy is looked at by itself,
so that nobody waits for another one's writes. A write that fails is decided anew a little later.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import UTC, datetime
from enum import IntEnum
from fractions import Fraction
from functools import partial
from weakref import WeakValueDictionary

from arbiter.demand import InvalidDemandError
from arbiter.equilibrium import GpuPrice
from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter_kube.api.annotations import DEMAND, TargetGrant, encode_demand
from arbiter_kube.api.gpuallocation import GpuAllocation, GpuAllocationStatus
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.resources import GPU_ALLOCATIONS, QUALITY_POLICIES
from arbiter_kube.client import KubeError
from arbiter_kube.client.events import EventRecorder, Notice
from arbiter_operator.agenda import Agenda, steady_time
from arbiter_operator.cluster import Cluster, allocation_key
from arbiter_operator.demands import DemandChange, edits, resolved
from arbiter_operator.evictor import Evictor
from arbiter_operator.history import History
from arbiter_operator.metrics import QUALITY_CHANGES
from arbiter_operator.node import NodeState
from arbiter_operator.notices import condition_notices, found_notices, target_notices
from arbiter_operator.placeable import Prospect, Prospects
from arbiter_operator.protected import Protected
from arbiter_operator.queue import Queue
from arbiter_operator.rooms import Rooms
from arbiter_operator.status import allocation_status, policy_status
from arbiter_operator.targets import PodTarget, plan
from arbiter_operator.view import is_converged, pod_views
from arbiter_operator.work import Look, WorkQueue
from arbiter_operator.writer import Writer

DEBOUNCE = 0.02
"""Seconds in which events are gathered: one change is often told by several objects within milliseconds."""

STATUS_INTERVAL = 1.0
"""Seconds between two status writes of one object."""

FORGET_INTERVAL = 300.0

PROSPECT_INTERVAL = 15.0
"""Seconds between two looks at where pods of allocations that nobody uses would go."""

TARGETS_AT_ONCE = 12
"""Targets of one node under way: all members of most GPUs, and fewer than all writes, for those of a node may hang."""

_log = logging.getLogger(__name__)


class _Kind(IntEnum):
    """What is looked at, the most urgent first."""

    NODE = 0
    QUEUE = 1
    POLICY = 2
    ALLOCATION = 3


class Engine:
    """Turns what `cluster` has been told into writes. `wake()` it after every event; `run()` is its loop."""

    def __init__(
        self, cluster: Cluster, *, writer: Writer, recorder: EventRecorder, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock`: seconds since the epoch."""
        self._cluster = cluster
        self._writer = writer
        self._recorder = recorder
        self._clock = clock
        self._woken = asyncio.Event()
        self._is_running = False
        self._agenda = Agenda()
        self._work = WorkQueue(self._agenda)
        self._history = History()
        self._before: dict[NodeName, NodeState] = {}
        self._prices: dict[NodeName, Mapping[GpuUuid, GpuPrice]] = {}
        self._rooms = Rooms(unit=cluster.unit)
        self._protected = Protected()
        self._queue = Queue(
            cluster,
            writer=writer,
            recorder=recorder,
            history=self._history,
            rooms=self._rooms,
            protected=self._protected,
            clock=clock,
        )
        self._prospects = Prospects()
        self._prospects_after = -1
        self._evictor = Evictor(
            writer=writer,
            recorder=recorder,
            protected=self._protected,
            allocation_of=self._allocation_of,
            clock=clock,
        )
        self._status_after: dict[ObjectKey | str, float] = {}
        self._writes: WeakValueDictionary[PodUid, asyncio.Lock] = WeakValueDictionary()

    def prices(self) -> dict[tuple[NodeName, GpuUuid], float]:
        """The price of every GPU, as last solved."""
        return {(node, gpu): float(price.price) for node, gpus in self._prices.items() for gpu, price in gpus.items()}

    def wake(self) -> None:
        """Something may have to be looked at; while nobody does, marks would only pile up."""
        if self._is_running:
            self._woken.set()
        else:
            self._cluster.forget_changes()

    async def run(self) -> None:
        """Reconciles for ever. Beginning anew, it looks at everything: a look that was broken off left no mark."""
        self._is_running = True
        self._cluster.mark_everything()
        self._forget_former_turn()
        self._forget_gone()
        self._look_at_unused()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work.run())
                group.create_task(self._follow())
        finally:
            self._is_running = False
            self._agenda.clear()

    async def _follow(self) -> None:
        while True:
            await self._woken.wait()
            await asyncio.sleep(DEBOUNCE)
            self._woken.clear()
            self._put_changed()

    def _put_changed(self) -> None:
        cluster = self._cluster
        nodes, cluster.changed_nodes = cluster.changed_nodes, set()
        for node in sorted(nodes):
            self._put_node(node)
        self._put(_Kind.QUEUE, None, self._reconcile_queue)
        if cluster.changed_policies:
            cluster.changed_policies = False
            for policy in cluster.policies:
                self._put_policy(policy)
        allocations, cluster.changed_allocations = cluster.changed_allocations, set()
        for key in sorted(allocations):
            self._put_allocation(key)

    def _put_node(self, name: NodeName) -> None:
        self._put(_Kind.NODE, name, partial(self._reconcile_node, name))

    def _put_policy(self, name: str) -> None:
        self._put(_Kind.POLICY, name, partial(self._reconcile_policy, name))

    def _put_allocation(self, key: ObjectKey) -> None:
        self._put(_Kind.ALLOCATION, key, partial(self._reconcile_allocation, key))

    def _put(self, kind: _Kind, name: Hashable, look: Look) -> None:
        async def look_and_tell() -> bool:
            try:
                return await look()
            finally:
                # What it marked, nobody else may tell of.
                if self._cluster.is_changed:
                    self.wake()

        self._work.put((kind, name), look_and_tell)

    async def _reconcile_queue(self) -> bool:
        await self._queue.reconcile()
        if self._queue.next_at is not None:
            self._agenda.put("queue", self._queue.next_at - self._clock(), self.wake)
        return True

    # Targets

    async def _reconcile_node(self, name: NodeName) -> bool:
        state = self._cluster.node_state(name)
        if state is None:
            self._before.pop(name, None)
            self._prices.pop(name, None)
            self._evictor.forget(name)
            return True
        for pod in state.pods:
            self._note_applied(pod, state)
            self._note_found(pod, state)
        before, self._before[name] = self._before.get(name), state
        succeeded = await self._write_targets(name, before)
        await self._evict(name)
        return succeeded

    async def _write_targets(self, name: NodeName, before: NodeState | None) -> bool:
        """Tells everybody once, a few at a time; what the later ones are told follows from what has come meanwhile."""
        tried: set[PodUid] = set()
        succeeded = True
        while (state := self._cluster.node_state(name)) is not None:
            decided = plan(state, before=before)
            self._prices[name] = decided.prices
            pending = [change for change in decided.changes if change.pod.uid not in tried]
            now = pending[:TARGETS_AT_ONCE]
            tried.update(change.pod.uid for change in now)
            succeeded &= all(await asyncio.gather(*(self._write_target(change) for change in now)))
            if len(now) == len(pending):
                break
        return succeeded

    async def _write_target(self, change: PodTarget) -> bool:
        pod, written_at = change.pod, steady_time()
        async with self._writing(pod):
            known = self._cluster.pod(pod.uid)
            if known is None or known.seen.demand != pod.demand:
                return True  # it was decided from another demand, whose change has marked the node
            try:
                written = await self._writer.annotate(pod, change.annotations)
            except KubeError as error:
                _log.warning("target not written pod=%s error=%s", pod.key, error)
                return False
            if written is not None:
                self._cluster.pod_written(written)
        if written is not None and change.grant is not None:
            _log.info(
                "target written pod=%s quality=%s vram=%d revision=%d reason=%s",
                *(pod.key, change.grant.quality, change.grant.vram, change.grant.revision, change.grant.reason),
            )
            self._history.wrote(pod.uid, revision=change.grant.revision, at=written_at)
            _count_change(pod.grant, change.grant)
            notices = target_notices(pod, pod.grant, change.grant, allocation=self._allocation_of(pod))
            first = next(iter(notices), None)
            # Every target is news, though its sentence may be that of an hour ago: one of this name came back.
            news = str(change.grant.revision)
            if first and self._history.tell_changed(pod.uid, first.reason, message=news, at=written_at):
                self._tell(notices)
        return True

    async def _evict(self, name: NodeName) -> None:
        state = self._cluster.node_state(name)
        again_after = None if state is None else await self._evictor.look(state)
        if again_after is not None:
            self._agenda.put(("evictions", name), again_after, partial(self._put_node, name))

    def _note_applied(self, pod: GpuPod, state: NodeState) -> None:
        seat = state.seats.get(pod.uid)
        if seat is not None and pod.grant is not None and is_converged(pod, seat.grant):
            self._history.applied(pod.uid, revision=pod.grant.revision, at=steady_time())

    def _note_found(self, pod: GpuPod, state: NodeState) -> None:
        if self._history.has_told(pod.uid, "VramWaiting") and self._history.tell_once(
            pod.uid, "VramFound", at=steady_time()
        ):
            where = ", ".join(state.label(gpu) for gpu in pod.gpus)
            self._tell(found_notices(pod, where, allocation=self._allocation_of(pod)))

    # Allocations and policies

    async def _reconcile_allocation(self, key: ObjectKey) -> bool:
        allocation = self._cluster.allocations.get(key)
        if allocation is None:
            self._status_after.pop(key, None)
            self._queue.preempted.pop(key, None)
            return True
        pods = self._cluster.pods_of(key)
        preempted = self._queue.preempted.get(key)
        is_seen = preempted is not None and preempted.is_seen(pods)
        defaults = self._cluster.demand_defaults
        edited = edits(allocation, pods, defaults=defaults, unit=self._cluster.unit)
        rewritten = all(await asyncio.gather(*(self._write_demand(edit) for edit in edited)))
        if self._is_too_soon(key, partial(self._put_allocation, key)):
            return rewritten
        status = allocation_status(
            allocation,
            pod_views(
                pods,
                node_state=self._cluster.node_state,
                waits=self._queue.waits,
                applied_after=self._applied_after,
            ),
            edits=edited,
            defaults=defaults,
            prospect=self._prospect(allocation) if not pods else None,
            preempted=preempted.message if preempted is not None and is_seen else None,
            now=datetime.fromtimestamp(self._clock(), UTC),
        )
        if status == allocation.status:
            if is_seen:
                self._queue.preempted.pop(key, None)
            return rewritten
        return await self._write_allocation_status(key, allocation, status) and rewritten

    def _prospect(self, allocation: GpuAllocation) -> Prospect | None:
        """Where a first pod would go; None where its demand contradicts itself."""
        try:
            demand = resolved(allocation, defaults=self._cluster.demand_defaults)
        except InvalidDemandError:
            return None
        # All nodes are asked at once, for of such allocations there may be as many.
        if self._prospects_after != self._cluster.node_changes:
            self._prospects_after = self._cluster.node_changes
            self._prospects.update(
                {
                    node.name: (state, self._rooms.of(state))
                    for node, state in self._cluster.nodes_with_gpus()
                    if node.is_ready and not node.spec.unschedulable
                }
            )
        return self._prospects.of(demand)

    async def _write_allocation_status(
        self, key: ObjectKey, allocation: GpuAllocation, status: GpuAllocationStatus
    ) -> bool:
        try:
            written = await self._writer.status(GPU_ALLOCATIONS, allocation.metadata, status)
        except KubeError as error:
            _log.warning("status not written allocation=%s error=%s", key, error)
            return False
        self._status_after[key] = steady_time() + STATUS_INTERVAL
        if written is not None:
            self._cluster.allocation_written(written)
            self._tell(condition_notices(allocation, status))
        return True

    async def _write_demand(self, edit: DemandChange) -> bool:
        if edit.frozen is None:
            return True
        async with self._writing(edit.pod):
            try:
                written = await self._writer.annotate(edit.pod, {DEMAND: encode_demand(edit.frozen)})
            except KubeError as error:
                _log.warning("demand not written pod=%s error=%s", edit.pod.key, error)
                return False
            if written is not None:
                _log.info("demand rewritten pod=%s generation=%s", edit.pod.key, edit.frozen.generation)
                self._cluster.pod_written(written)
        return True

    def _writing(self, pod: GpuPod) -> asyncio.Lock:
        """Held while a pod is written: a target must not overtake the demand that it was not decided from."""
        return self._writes.setdefault(pod.uid, asyncio.Lock())

    async def _reconcile_policy(self, name: str) -> bool:
        policy, now = self._cluster.policies.get(name), datetime.fromtimestamp(self._clock(), UTC)
        if policy is None:
            self._status_after.pop(name, None)
            return True
        if self._is_too_soon(name, partial(self._put_policy, name)):
            return True
        status = policy_status(policy, self._cluster.reach_of(policy), now=now)
        if status == policy.status:
            return True
        try:
            written = await self._writer.status(QUALITY_POLICIES, policy.metadata, status)
        except KubeError as error:
            _log.warning("status not written policy=%s error=%s", name, error)
            return False
        self._status_after[name] = steady_time() + STATUS_INTERVAL
        if written is not None:
            self._cluster.policy_written(written)
        return True

    # Shared by all of them

    def _is_too_soon(self, name: ObjectKey | str, look_again: Callable[[], None]) -> bool:
        """Whether a status of the object has just been written; then it is looked at again when that is a while ago.

        Asked first: what an allocation of thousands of pods should say takes tens of milliseconds to find out.
        """
        now, after = steady_time(), self._status_after.get(name, 0.0)
        if now < after:
            self._agenda.put(("status", name), after - now, look_again)
        return now < after

    def _look_at_unused(self) -> None:
        """What would become of pods of theirs changes with every node: told now and then, not at every change."""
        self._cluster.mark_unused_allocations()
        self.wake()
        self._agenda.put("unused", PROSPECT_INTERVAL, self._look_at_unused)

    def _forget_former_turn(self) -> None:
        """What changed while another one led is unknown: nothing follows from what was so before."""
        self._before.clear()
        self._prices.clear()
        self._status_after.clear()
        self._queue.preempted.clear()
        self._protected.forget_everything()
        self._evictor.forget_everything()

    def _forget_gone(self) -> None:
        """Drops what is remembered of pods and nodes that no longer exist."""
        self._history.keep_only(self._cluster.pod_uids)
        self._rooms.keep_only(self._cluster.reports)
        self._agenda.put("history", FORGET_INTERVAL, self._forget_gone)

    def _allocation_of(self, pod: GpuPod) -> GpuAllocation | None:
        key = allocation_key(pod)
        return None if key is None else self._cluster.allocations.get(key)

    def _applied_after(self, pod: GpuPod) -> float | None:
        return None if pod.grant is None else self._history.applied_after(pod.uid, revision=pod.grant.revision)

    def _tell(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self._recorder.record(notice)


def _count_change(before: TargetGrant | None, after: TargetGrant) -> None:
    was, now = Fraction(before.quality if before is not None else after.quality), Fraction(after.quality)
    if was != now:
        QUALITY_CHANGES.labels("up" if now > was else "down").inc()
