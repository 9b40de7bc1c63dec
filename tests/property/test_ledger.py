"""Random histories of a small cluster with one extender: pods come, are scheduled, end and vanish, while watches lag,
repeat themselves and break.

The API server's own state is the truth. At no instant may the floors that it has bound to a GPU exceed that GPU.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.placement import Newcomer
from arbiter.units import MIB
from arbiter_extender.decision import FilterAnswer, Refusal, filter_nodes, plan_bind, prioritize
from arbiter_extender.ledger import Ledger
from arbiter_extender.promises import SOFT_HOLD, Assignment
from arbiter_kube.api.annotations import Nomination
from arbiter_kube.api.gpunode import GrantState
from arbiter_kube.api.occupancy import slices_per_gpu
from arbiter_kube.api.pods import GpuPod, fixed_demand
from arbiter_kube.api.reports import GrantReport, NodeReport
from tests.unit.extender.builders import NOW, UNIT, a_node, a_pod

SIZES = st.integers(min_value=1, max_value=13).map(lambda half: half * 512 * MIB)


@dataclass
class Cluster:
    """The API server: what is true, and what the extender's watch has yet to tell of it."""

    pods: dict[PodUid, GpuPod] = field(default_factory=dict)
    told: dict[PodUid, GpuPod] = field(default_factory=dict)
    pending: list[GpuPod | PodUid] = field(default_factory=list)

    def write(self, pod: GpuPod) -> None:
        self.pods[pod.uid] = pod
        self.pending.append(pod)

    def delete(self, uid: PodUid) -> None:
        del self.pods[uid]
        self.pending.append(uid)


class LedgerMachine(RuleBasedStateMachine):
    """One extender in front of that cluster."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.cluster = Cluster()
        self.ledger = Ledger(unit=UNIT)
        self.reports: dict[NodeName, NodeReport] = {}
        self.soft: dict[PodUid, tuple[GpuPod, Assignment, float]] = {}
        self.flying: dict[PodUid, tuple[GpuPod, Assignment]] = {}
        self.born = 0

    @initialize(usable=st.lists(st.lists(SIZES, min_size=1, max_size=3), min_size=1, max_size=3))
    def nodes(self, usable: list[list[int]]) -> None:
        for number, sizes in enumerate(usable):
            node = a_node(f"n{number}")
            for index, size in enumerate(sizes):
                node = node.gpu(f"n{number}-{index}", str(size))
            self.reports[NodeName(node.name)] = node.report
            self.ledger.report_applied(NodeName(node.name), node.report)

    # What happens in the cluster

    @rule(floor=SIZES, more=SIZES, gpus=st.integers(min_value=1, max_value=2))
    def create(self, floor: int, more: int, gpus: int) -> None:
        self.born += 1
        self.cluster.write(a_pod(f"p{self.born}").gpus(gpus).sizes(full=str(floor + more), floor=str(floor)).pod)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        bound = [pod for pod in self.cluster.pods.values() if pod.node and not pod.finished]
        if bound:
            self.cluster.write(replace(data.draw(st.sampled_from(bound)), finished=True))

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.cluster.pods:
            self.cluster.delete(data.draw(st.sampled_from(sorted(self.cluster.pods))))

    @rule(seconds=st.sampled_from([0.1, 1.0, SOFT_HOLD]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.ledger.expire(self.now, epoch=self.now)

    @precondition(lambda self: self._waiting())
    @rule(data=st.data(), seconds=st.sampled_from([0.5, 5.0]))
    def nominate(self, data: st.DataObject, seconds: float) -> None:
        pod = data.draw(st.sampled_from(self._waiting()))
        name = data.draw(st.sampled_from(sorted(self.reports)))
        gpus = tuple(gpu.uuid for gpu in self.reports[name].gpus[: pod.demand.gpu_count])
        until = datetime.fromtimestamp(self.now + seconds, UTC)
        self.cluster.write(replace(pod, nomination=Nomination(node=name, gpus=gpus, until=until)))

    @rule(data=st.data(), half_more=st.integers(min_value=0, max_value=6), state=st.sampled_from(GrantState))
    def a_node_says_what_its_containers_hold(self, data: st.DataObject, half_more: int, state: GrantState) -> None:
        name = data.draw(st.sampled_from(sorted(self.reports)))
        there = [pod for pod in self.cluster.pods.values() if pod.node == name]
        named = data.draw(st.lists(st.sampled_from(there), unique_by=lambda pod: pod.uid)) if there else []
        grants = (
            GrantReport(
                pod_uid=pod.uid,
                namespace=pod.namespace,
                pod=pod.name,
                container=pod.frozen.container,
                gpus=pod.gpus,
                granted=pod.demand.floor,
                held=pod.demand.floor + half_more * 512 * MIB,
                movable=state is GrantState.MOVABLE,
                state=state,
            )
            for pod in named
        )
        self.reports[name] = msgspec.structs.replace(self.reports[name], grants=tuple(grants))
        self.ledger.report_applied(name, self.reports[name])

    # What the watch tells, when, and how often

    @rule(count=st.integers(min_value=1, max_value=4), twice=st.booleans())
    def watch(self, count: int, twice: bool) -> None:
        for event in self.cluster.pending[:count]:
            for _ in range(2 if twice else 1):
                self._tell(event)
        del self.cluster.pending[:count]

    @rule(data=st.data())
    def watch_breaks_and_lists_again(self, data: st.DataObject) -> None:
        self.cluster.pending.clear()
        for uid in sorted(self.cluster.told.keys() - self.cluster.pods.keys()):
            self._tell(uid)
        for pod in data.draw(st.permutations(list(self.cluster.pods.values()))):
            self._tell(pod)

    @rule()
    def nodes_say_the_same_again(self) -> None:
        for name, report in self.reports.items():
            self.ledger.report_applied(name, report)

    # What kube-scheduler asks

    @precondition(lambda self: self._waiting())
    @rule(data=st.data(), answer=st.sampled_from(FilterAnswer))
    def filter_and_prioritize(self, data: st.DataObject, answer: FilterAnswer) -> None:
        pod = data.draw(st.sampled_from(self._waiting()))
        plan = filter_nodes(self.ledger, pod, tuple(self.reports), answer=answer)
        hold = plan.hold or prioritize(self.ledger, pod, plan.passed)
        if self.ledger.assigned(pod.uid) is not None:
            return  # it is being bound, and keeps its room even where somebody was nominated for it since
        assert (hold is not None) == bool(plan.passed)
        if hold is not None:
            self.ledger.hold(pod, hold, until=self.now + SOFT_HOLD)
            self.soft[pod.uid] = (pod, hold, self.now + SOFT_HOLD)

    @precondition(lambda self: self._waiting())
    @rule(data=st.data())
    def bind(self, data: st.DataObject) -> None:
        pod = data.draw(st.sampled_from(self._waiting()))
        plan = plan_bind(self.ledger, pod, data.draw(st.sampled_from(sorted(self.reports))))
        if not isinstance(plan, Refusal) and self.ledger.assigned(pod.uid) is None:
            self.ledger.assume(pod, plan)
            self.flying[pod.uid] = (pod, plan)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def the_api_server_binds(self, data: st.DataObject) -> None:
        self._land(data.draw(st.sampled_from(sorted(self.flying))))

    # What must hold

    @invariant()
    def no_gpu_is_promised_twice(self) -> None:
        floors: Counter[GpuUuid] = Counter()
        slices: Counter[GpuUuid] = Counter()
        for pod in self.cluster.pods.values():
            if pod.node and not pod.finished:
                for gpu in pod.gpus:
                    floors[gpu] += pod.demand.floor
                    slices[gpu] += slices_per_gpu(pod)
        for report in self.reports.values():
            for status in report.gpus:
                gpu = GpuUuid(status.uuid)
                assert floors[gpu] <= status.usable
                assert slices[gpu] <= status.usable // UNIT

    @invariant()
    def it_equals_a_ledger_built_afresh(self) -> None:
        fresh = Ledger(unit=UNIT)
        for pod in self.cluster.told.values():
            fresh.pod_applied(pod)
        for name, report in self.reports.items():
            fresh.report_applied(name, report)
        for pod, assignment, until in self.soft.values():
            if self.ledger.soft_hold(pod.uid) is not None:
                fresh.hold(pod, assignment, until=until)
        for number in range(1, self.born + 1):
            uid = PodUid(f"uid-p{number}")
            assigned, known = self.ledger.assigned(uid), self.ledger.pod(uid)
            if self.ledger.is_assumed(uid) and assigned is not None and known is not None:
                fresh.assume(known, assigned)
        fresh.expire(self.now, epoch=self.now)
        self.ledger.expire(self.now, epoch=self.now)
        for name in self.reports:
            assert self.ledger.occupancy(name) == fresh.occupancy(name)
        for size in (1, 4):
            anybody = Newcomer(demand=fixed_demand(size * UNIT))
            nodes = sorted(self.reports)
            index = self.ledger.placement(besides=PodUid(""))
            assert index.fitting(anybody, nodes) == fresh.placement(besides=PodUid("")).fitting(anybody, nodes)
            assert index.choose(anybody) == fresh.placement(besides=PodUid("")).choose(anybody)

    def teardown(self) -> None:
        """Once everything has been told, nothing is claimed but what is bound."""
        for uid in sorted(self.flying):
            self._land(uid)
        self.watch(count=len(self.cluster.pending), twice=False)
        self.time_passes(10.0)
        for name, report in self.reports.items():
            self.ledger.report_applied(name, msgspec.structs.replace(report, grants=()))
        claims = {
            (claim.uid, name)
            for name in self.reports
            if (view := self.ledger.occupancy(name)) is not None
            for claim in view.claims
        }
        bound = {(pod.uid, pod.node) for pod in self.cluster.pods.values() if pod.node and not pod.finished}
        # Pods that came and went between two lists are looked up by the binder, whatever the watch does.
        unseen = {(uid, node) for uid, node in claims if self.ledger.is_assumed(uid)}
        assert claims - unseen == bound
        assert all(uid not in self.cluster.pods for uid, _ in unseen)

    def _waiting(self) -> list[GpuPod]:
        return [pod for pod in self.cluster.pods.values() if pod.node is None]

    def _tell(self, event: GpuPod | PodUid) -> None:
        if isinstance(event, GpuPod):
            self.cluster.told[event.uid] = event
            self.ledger.pod_applied(event)
        else:
            self.cluster.told.pop(event, None)
            self.ledger.pod_deleted(event)

    def _land(self, uid: PodUid) -> None:
        """The Binding arrives: in time, or after its pod was deleted, which the extender is then told."""
        pod, assignment = self.flying.pop(uid)
        if uid in self.cluster.pods:
            self.cluster.write(replace(pod, node=assignment.node, gpus=assignment.gpus))
        else:
            self.ledger.release(uid)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=80, stateful_step_count=60)
