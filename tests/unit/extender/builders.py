"""Fluent builders of what the ledger is fed with. Names of GPUs are short: `n1` has `a`, `b`, …"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.units import GIB, Slices, parse_bytes, slices_for
from arbiter.workload import Priority, Resize, WorkloadType
from arbiter_extender.ledger import Ledger
from arbiter_extender.promises import Assignment
from arbiter_kube.api.annotations import FrozenDemand, Nomination
from arbiter_kube.api.fields import ObjectMeta as Metadata
from arbiter_kube.api.gpunode import GpuNodeStatus, GpuStatus, GrantOnNode, GrantState, SliceCount
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.qualitypolicy import QualityPolicy, QualityPolicySpec
from arbiter_kube.api.reports import NodeReport, node_report

UNIT = GIB
NOW = 1_000_000.0


def at(node: str, *gpus: str) -> Assignment:
    return Assignment(node=NodeName(node), gpus=tuple(GpuUuid(gpu) for gpu in gpus))


def uid(name: str) -> PodUid:
    return PodUid(f"uid-{name}")


@dataclass(frozen=True, kw_only=True)
class PodBuilder:
    """A waiting pod of one GPU, full 10Gi and floor 4Gi, unless told otherwise."""

    pod: GpuPod

    def sizes(self, *, full: str, floor: str) -> "PodBuilder":
        fixed = full == floor
        demand = replace(
            self.pod.demand,
            full=parse_bytes(full),
            floor=parse_bytes(floor),
            minimum=Fraction(1) if fixed else Fraction("0.4"),
        )
        return self._with(demand)

    def gpus(self, count: int) -> "PodBuilder":
        return self._with(replace(self.pod.demand, gpu_count=count))

    def priority(self, priority: Priority) -> "PodBuilder":
        return self._with(replace(self.pod.demand, priority=priority))

    def at_start(self) -> "PodBuilder":
        return self._with(replace(self.pod.demand, resize=Resize.AT_START))

    def reserving(self, slices: int) -> "PodBuilder":
        """The kubelet counts this, whatever the floor says now."""
        return PodBuilder(pod=replace(self.pod, slices=Slices(slices)))

    def bound(self, node: str, *gpus: str) -> "PodBuilder":
        return PodBuilder(pod=replace(self.pod, node=NodeName(node), gpus=tuple(GpuUuid(gpu) for gpu in gpus)))

    def nominated(self, node: str, *gpus: str, seconds: float) -> "PodBuilder":
        nomination = Nomination(
            node=NodeName(node),
            gpus=tuple(GpuUuid(gpu) for gpu in gpus),
            until=datetime.fromtimestamp(NOW + seconds, UTC),
        )
        return PodBuilder(pod=replace(self.pod, nomination=nomination))

    def finished(self) -> "PodBuilder":
        return PodBuilder(pod=replace(self.pod, finished=True))

    def terminating(self) -> "PodBuilder":
        return PodBuilder(pod=replace(self.pod, terminating=True))

    def _with(self, demand: Demand) -> "PodBuilder":
        slices = Slices(slices_for(demand.floor, unit=UNIT) * demand.gpu_count)
        return PodBuilder(pod=replace(self.pod, frozen=replace(self.pod.frozen, demand=demand), slices=slices))


def a_pod(name: str) -> PodBuilder:
    demand = Demand(
        workload_type=WorkloadType.LLM_INFERENCE,
        priority=Priority.NORMAL,
        full=10 * GIB,
        floor=4 * GIB,
        maximum=Fraction(1),
        minimum=Fraction("0.4"),
    )
    frozen = FrozenDemand(demand=demand, container="main")
    return PodBuilder(pod=GpuPod(uid=uid(name), namespace="team", name=name, frozen=frozen, slices=Slices(4)))


@dataclass(frozen=True, kw_only=True)
class NodeBuilder:
    """What a node's agent reports."""

    name: str
    status: GpuNodeStatus = field(default_factory=lambda: GpuNodeStatus(unit=UNIT))

    def gpu(self, uuid: str, usable: str, *, healthy: bool = True) -> "NodeBuilder":
        size = parse_bytes(usable)
        gpu = GpuStatus(uuid=uuid, index=len(self.status.gpus), total=size, reserved=0, usable=size, healthy=healthy)
        return self._with(gpus=[*self.status.gpus, gpu])

    def counting_in(self, unit: str) -> "NodeBuilder":
        """Bytes of a slice there; 0 before the agent has said anything."""
        return self._with(unit=parse_bytes(unit))

    def links(self, uuid: str, *others: str) -> "NodeBuilder":
        """What the GPU reaches directly."""
        gpus = [gpu.model_copy(update={"links": list(others)}) if gpu.uuid == uuid else gpu for gpu in self.status.gpus]
        return self._with(gpus=gpus)

    def grant(
        self,
        pod: str,
        *gpus: str,
        held: str,
        state: GrantState = GrantState.HELD,
        granted: str | None = None,
        by: str | None = None,
    ) -> "NodeBuilder":
        """`granted` is what is held unless told otherwise; a gated container has been granted nothing.

        `by` another than the pod that has the name now: the name whose UID it is.
        """
        size = parse_bytes(granted or held)
        grant = GrantOnNode(
            pod_uid=uid(by or pod),
            namespace="team",
            pod=pod,
            container="main",
            gpus=list(gpus),
            granted=None if state is GrantState.GATED else size,
            held=parse_bytes(held),
            movable=state is GrantState.MOVABLE,
            state=state,
        )
        return self._with(grants=[*self.status.grants, grant])

    def slices(self, pod: str, gpu: str, count: int) -> "NodeBuilder":
        entry = SliceCount(namespace="team", pod=pod, container="main", gpu=gpu, slices=count)
        return self._with(slices=[*self.status.slices, entry])

    def _with(self, **changes: object) -> "NodeBuilder":
        return NodeBuilder(name=self.name, status=self.status.model_copy(update=changes))

    @property
    def report(self) -> NodeReport:
        return node_report(self.status)


def a_node(name: str) -> NodeBuilder:
    return NodeBuilder(name=name)


def a_policy(name: str, **spec: object) -> QualityPolicy:
    return QualityPolicy(metadata=Metadata(name=name), spec=QualityPolicySpec.model_validate(spec))


def a_ledger(*things: NodeBuilder | PodBuilder) -> Ledger:
    """A ledger that was told these things."""
    ledger = Ledger(unit=UNIT)
    for thing in things:
        if isinstance(thing, NodeBuilder):
            ledger.report_applied(NodeName(thing.name), thing.report)
        else:
            ledger.pod_applied(thing.pod)
    return ledger
