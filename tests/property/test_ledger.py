"""Random histories of a small cluster with one extender: pods come, are scheduled, end, vanish and come again by the
same name; nodes fall ill, go, come back with other GPUs and change their policy, while watches lag, repeat themselves
and break.

The API server's own state is the truth. At no instant may the floors that it has bound to a GPU exceed that GPU, but
for nodes whose kubelet gave a container other GPUs than it was bound with.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from arbiter.ids import GpuUuid, NodeName, NodeUid, PodUid
from arbiter.placement import Newcomer
from arbiter.units import MIB
from arbiter.workload import PolicyMode
from arbiter_extender.decision import FilterAnswer, Refusal, filter_nodes, plan_bind, prioritize
from arbiter_extender.ledger import Ledger
from arbiter_extender.promises import SOFT_HOLD, Assignment
from arbiter_kube.api.annotations import Nomination
from arbiter_kube.api.gpunode import GrantState
from arbiter_kube.api.occupancy import slices_per_gpu
from arbiter_kube.api.pods import GpuPod, fixed_demand
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_kube.api.reports import ANY_NODE, GrantReport, NodeReport, SliceReport
from tests.unit.extender.builders import NOW, UNIT, a_node, a_pod, a_policy

pytestmark = pytest.mark.timeout(900)

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
        """What each node's agent said last."""
        self.away: set[NodeName] = set()
        """Nodes whose GpuNode is deleted."""
        self.labels: dict[NodeName, dict[str, str]] = {}
        self.uids: dict[NodeName, NodeUid] = {}
        self.told_of: dict[NodeName, NodeUid] = {}
        """Which node of the name each report is about."""
        self.policies: dict[str, QualityPolicy] = {}
        self.is_settled = True
        """Whether the index has seen the policies."""
        self.usable: dict[GpuUuid, int] = {}
        """Of every GPU that there ever was."""
        self.moved: dict[PodUid, tuple[GpuUuid, ...]] = {}
        """Where containers are that the kubelet gave other GPUs than they were bound with."""
        self.disturbed: set[NodeName] = set()
        """Nodes where it did."""
        self.former: list[GpuPod] = []
        """Bound pods that were deleted."""
        self.soft: dict[PodUid, tuple[GpuPod, Assignment, float]] = {}
        self.assumed: dict[PodUid, tuple[GpuPod, Assignment]] = {}
        """Until the watch, or an answer to the Binding, has told what became of them."""
        self.flying: dict[PodUid, tuple[GpuPod, Assignment]] = {}
        self.born = 0

    @initialize(usable=st.lists(st.lists(SIZES, min_size=1, max_size=3), min_size=1, max_size=3))
    def nodes(self, usable: list[list[int]]) -> None:
        for number, sizes in enumerate(usable):
            node = a_node(f"n{number}")
            for index, size in enumerate(sizes):
                node = node.gpu(f"n{number}-{index}", str(size))
            self._report(NodeName(node.name), node.report)

    # What happens in the cluster

    @rule(floor=SIZES, more=SIZES, gpus=st.integers(min_value=1, max_value=2))
    def create(self, floor: int, more: int, gpus: int) -> None:
        self.born += 1
        taken = {pod.name for pod in self.cluster.pods.values()}
        name = next(name for number in count() if (name := f"chat-{number}") not in taken)
        pod = a_pod(f"p{self.born}").gpus(gpus).sizes(full=str(floor + more), floor=str(floor)).pod
        self.cluster.write(replace(pod, name=name))

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        bound = [pod for pod in self.cluster.pods.values() if pod.node and not pod.finished]
        if bound:
            self.cluster.write(replace(data.draw(st.sampled_from(bound)), finished=True))

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.cluster.pods:
            uid = data.draw(st.sampled_from(sorted(self.cluster.pods)))
            if self.cluster.pods[uid].node:
                self.former.append(self.cluster.pods[uid])
            self.cluster.delete(uid)

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
        there = [pod for pod in (*self.cluster.pods.values(), *self.former[-3:]) if pod.node == name]
        named = data.draw(st.lists(st.sampled_from(there), unique_by=lambda pod: pod.uid)) if there else []
        counted = data.draw(st.lists(st.sampled_from(named), unique_by=lambda pod: pod.uid)) if named else []
        living = {pod.name for pod in named if pod.uid in self.cluster.pods}
        grants = (
            GrantReport(
                pod_uid=pod.uid,
                namespace=pod.namespace,
                pod=pod.name,
                container=pod.frozen.container,
                gpus=self._place(pod),
                granted=pod.demand.floor,
                held=pod.demand.floor + half_more * 512 * MIB,
                movable=state is GrantState.MOVABLE,
                state=state,
            )
            for pod in named
        )
        slices = (
            SliceReport(
                namespace=pod.namespace,
                pod=pod.name,
                container=pod.frozen.container,
                gpu=gpu,
                slices=slices_per_gpu(pod),
            )
            for pod in counted
            for gpu in self._place(pod)
            # The kubelet's list has names: once it has allocated the pod that has this one now, it speaks of that.
            if pod.uid in self.cluster.pods or pod.name not in living
        )
        self._report(name, msgspec.structs.replace(self.reports[name], grants=tuple(grants), slices=tuple(slices)))

    @rule(data=st.data())
    def a_kubelet_gives_a_container_other_gpus(self, data: st.DataObject) -> None:
        bound = [pod for pod in self.cluster.pods.values() if pod.node and not pod.finished]
        if bound:
            pod = data.draw(st.sampled_from(bound))
            assert pod.node is not None
            here = [gpu.uuid for gpu in self.reports[pod.node].gpus]
            self.moved[pod.uid] = tuple(data.draw(st.permutations(here))[: pod.demand.gpu_count])
            self.disturbed.add(pod.node)

    @rule(data=st.data())
    def a_gpu_falls_ill_or_recovers(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.reports)))
        ill = data.draw(st.sampled_from(self.reports[name].gpus)).uuid
        gpus = tuple(
            msgspec.structs.replace(gpu, healthy=not gpu.healthy) if gpu.uuid == ill else gpu
            for gpu in self.reports[name].gpus
        )
        self._report(name, msgspec.structs.replace(self.reports[name], gpus=gpus))

    @rule(data=st.data(), with_its_node=st.booleans())
    def a_gpu_node_is_deleted(self, data: st.DataObject, with_its_node: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.reports)))
        self.away.add(name)
        self.ledger.report_deleted(name)
        if with_its_node:
            self.labels.pop(name, None)
            self.uids.pop(name, None)
            self.ledger.node_deleted(name)

    @precondition(lambda self: self.away)
    @rule(data=st.data(), is_another=st.booleans())
    def a_node_comes_back(self, data: st.DataObject, is_another: bool) -> None:
        """Perhaps another machine with the same name."""
        report = self.reports[name := data.draw(st.sampled_from(sorted(self.away)))]
        if is_another:
            gpus = tuple(msgspec.structs.replace(gpu, uuid=GpuUuid(f"{gpu.uuid}'")) for gpu in report.gpus)
            report = msgspec.structs.replace(report, gpus=gpus, grants=(), slices=())
        self._report(name, report)

    @rule(data=st.data(), labels=st.sampled_from([{}, {"pool": "llm"}]))
    def a_node_is_labelled(self, data: st.DataObject, labels: dict[str, str]) -> None:
        name = data.draw(st.sampled_from(sorted(self.reports)))
        self.labels[name] = labels
        self.ledger.node_applied(name, labels, uid=self.uids.get(name, ANY_NODE))

    @rule(data=st.data(), is_another=st.booleans())
    def a_node_is_shown(self, data: st.DataObject, is_another: bool) -> None:
        """Perhaps another one, whose agent has said nothing yet."""
        name = data.draw(st.sampled_from(sorted(self.reports)))
        if is_another or name not in self.uids:
            self.uids[name] = NodeUid(f"{self.uids.get(name, name)}'")
        self.ledger.node_applied(name, self.labels.setdefault(name, {}), uid=self.uids[name])

    @rule(selector=st.sampled_from([{}, {"pool": "llm"}]), mode=st.sampled_from(PolicyMode))
    def a_policy_is_made_or_changed(self, selector: dict[str, str], mode: PolicyMode) -> None:
        policy = a_policy("pool" if selector else "default", mode=mode, nodeSelector=selector, weight=len(selector))
        self.policies[policy.metadata.name] = policy
        self.is_settled = False
        self.ledger.policy_applied(policy)

    @precondition(lambda self: self.policies)
    @rule(data=st.data())
    def a_policy_is_deleted(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.policies)))
        del self.policies[name]
        self.is_settled = False
        self.ledger.policy_deleted(name)

    # What the watch tells, when, and how often

    @rule(number=st.integers(min_value=1, max_value=4), twice=st.booleans())
    def watch(self, number: int, twice: bool) -> None:
        for event in self.cluster.pending[:number]:
            for _ in range(2 if twice else 1):
                self._tell(event)
        del self.cluster.pending[:number]

    @rule(data=st.data())
    def watch_breaks_and_lists_again(self, data: st.DataObject) -> None:
        self.cluster.pending.clear()
        for uid in sorted(self.cluster.told.keys() - self.cluster.pods.keys()):
            self._tell(uid)
        for pod in data.draw(st.permutations(list(self.cluster.pods.values()))):
            self._tell(pod)

    @rule()
    def nodes_say_the_same_again(self) -> None:
        for name in self.reports.keys() - self.away:
            self.ledger.report_applied(name, self.reports[name], of=self.told_of[name])

    @rule()
    def somebody_has_time(self) -> None:
        assert self.ledger.settle()
        self.is_settled = True

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
            self.soft.pop(pod.uid, None)
            self.flying[pod.uid] = self.assumed[pod.uid] = (pod, plan)

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
        disturbed = {gpu.uuid for name in self.disturbed for gpu in self.reports[name].gpus}
        disturbed.update(gpu for pod in self.cluster.pods.values() if pod.node in self.disturbed for gpu in pod.gpus)
        for gpu in floors.keys() - disturbed:
            assert floors[gpu] <= self.usable[gpu]
            assert slices[gpu] <= self.usable[gpu] // UNIT

    @invariant()
    def it_equals_a_ledger_built_afresh(self) -> None:
        fresh = Ledger(unit=UNIT)
        for pod in self.cluster.told.values():
            fresh.pod_applied(pod)
        for name in self.reports.keys() - self.away:
            fresh.report_applied(name, self.reports[name], of=self.told_of[name])
        for name, labels in self.labels.items():
            fresh.node_applied(name, labels, uid=self.uids.get(name, ANY_NODE))
        for policy in self.policies.values():
            fresh.policy_applied(policy)
        for pod, assignment, until in self.soft.values():
            fresh.hold(pod, assignment, until=until)
        for pod, assignment in self.assumed.values():
            fresh.assume(pod, assignment)
        fresh.expire(self.now, epoch=self.now)
        self.ledger.expire(self.now, epoch=self.now)
        for name in self.reports:
            assert self.ledger.occupancy(name) == fresh.occupancy(name)
        if self.is_settled:
            assert fresh.settle()
            self._compare_indices(self.ledger, fresh)

    def _compare_indices(self, ledger: Ledger, fresh: Ledger) -> None:
        nodes = sorted(self.reports)
        kept, anew = ledger.placement(besides=PodUid("")), fresh.placement(besides=PodUid(""))
        for size in (1, 4):
            anybody = Newcomer(demand=fixed_demand(size * UNIT))
            assert kept.fitting(anybody, nodes) == anew.fitting(anybody, nodes)
            assert kept.choose(anybody) == anew.choose(anybody)

    def teardown(self) -> None:
        """Once everything has been told, nothing is claimed but what is bound."""
        for uid in sorted(self.flying):
            self._land(uid)
        self.watch(number=len(self.cluster.pending), twice=False)
        self.time_passes(10.0)
        for name, report in self.reports.items():
            self._report(name, msgspec.structs.replace(report, grants=(), slices=()))
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
            if event.node is not None or event.finished:
                self._release(event.uid)
        else:
            self.cluster.told.pop(event, None)
            self.ledger.pod_deleted(event)
            self._release(event)

    def _release(self, uid: PodUid) -> None:
        self.soft.pop(uid, None)
        self.assumed.pop(uid, None)

    def _report(self, name: NodeName, report: NodeReport) -> None:
        self.away.discard(name)
        self.reports[name] = report
        self.usable.update({gpu.uuid: gpu.usable for gpu in report.gpus})
        self.told_of[name] = self.uids.get(name, ANY_NODE)
        self.ledger.report_applied(name, report, of=self.told_of[name])

    def _place(self, pod: GpuPod) -> tuple[GpuUuid, ...]:
        return self.moved.get(pod.uid, pod.gpus)

    def _land(self, uid: PodUid) -> None:
        """The Binding arrives: in time, or after its pod was deleted, which the extender is then told."""
        pod, assignment = self.flying.pop(uid)
        if uid in self.cluster.pods:
            self.cluster.write(replace(pod, node=assignment.node, gpus=assignment.gpus))
        else:
            self.ledger.release(uid)
            self._release(uid)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(stateful_step_count=60)
