"""Pods without a node: whether they would fit now, how long they may wait, and what they are told. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from arbiter.demand import Demand
from arbiter.equilibrium import Member
from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.placement import GpuRoom, NodeRoom
from arbiter.units import format_bytes
from arbiter.workload import Priority, WorkloadType
from arbiter_kube.api import SCHEDULER_NAME
from arbiter_kube.api.annotations import WAKE
from arbiter_kube.api.durations import format_duration, parse_duration
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.objects import Pod
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.qualitypolicy import QualityPolicySpec

WAKE_INTERVAL = 5.0
"""Seconds between the first wakes of a pod that fits and is not bound: the extender's view may be older than ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A pod that kube-scheduler has refused at least once. Times are seconds since the epoch, `timeout` seconds."""

    pod: GpuPod
    since: float
    woken_at: float | None
    timeout: float

    @property
    def times_out_at(self) -> float:
        """When it has waited for as long as was asked for."""
        return self.since + self.timeout

    def is_due(self, now: float, *, interval: float) -> bool:
        """Whether `interval` seconds have gone by since it was last woken, or that was by a clock ahead of ours."""
        return self.woken_at is None or not self.woken_at <= now < self.woken_at + interval


def waiting(
    pod: Pod, seen: GpuPod, *, allocation: GpuAllocation | None, policy: QualityPolicySpec | None
) -> Waiting | None:
    """The pod as one that waits for our scheduler to find room; None where it does not."""
    if seen.node or seen.finished or seen.terminating or pod.is_gated or seen.scheduler_name != SCHEDULER_NAME:
        return None
    if not any(condition.type == "PodScheduled" and condition.status == "False" for condition in pod.status.conditions):
        return None
    text = pod.metadata.annotations.get(WAKE, "")
    return Waiting(
        pod=seen,
        since=seen.created_at,
        woken_at=float(text) if text.replace(".", "", 1).isdecimal() else None,
        timeout=_timeout(seen.demand, allocation, policy),
    )


def _timeout(demand: Demand, allocation: GpuAllocation | None, policy: QualityPolicySpec | None) -> float:
    own = allocation is not None and (allocation.spec.no_wait or allocation.spec.timeout is not None)
    if allocation is not None and (own or policy is None or policy.allocation_timeout is None):
        return allocation.spec.wait_seconds()
    kind: WorkloadType = demand.workload_type
    priority: Priority = demand.priority
    usual = kind.defaults.timeout
    if policy is not None and policy.allocation_timeout is not None:
        usual = parse_duration(policy.allocation_timeout)
    return usual * priority.timeout_multiplier


def needs(demand: Demand) -> str:
    """What a demand has to find: ``needs 10Gi on one GPU``."""
    count = "one GPU" if demand.gpu_count == 1 else f"each of {demand.gpu_count} GPUs of a node"
    return f"needs {format_bytes(demand.floor)} on {count}"


def shortage(
    demand: Demand, rooms: Iterable[NodeRoom], *, labels: Mapping[GpuUuid, str], name: Callable[[PodUid], str]
) -> str:
    """What is missing: ``needs 10Gi on one GPU; gpu-1/0 has 6Gi, and 8Gi once team-b/posters (Background) ends``.

    `labels` names GPUs by uuid, `name` members by pod.
    """
    everywhere = [_Free(gpu, room) for room in rooms for gpu in sorted(room.gpus, key=lambda gpu: gpu.uuid)]
    if not everywhere:
        return f"{needs(demand)}; no node that takes it reports a healthy GPU"
    largest = max(everywhere, key=lambda free: free.in_all)
    if largest.in_all < demand.floor:
        return f"{needs(demand)}; the largest, {labels[largest.gpu.uuid]}, has {format_bytes(largest.in_all)} in all"
    if demand.gpu_count > 1:
        return f"{needs(demand)}; {_most(everywhere, demand)}"
    best = max(everywhere, key=lambda free: free.now)
    return f"{needs(demand)}; {labels[best.gpu.uuid]} has {format_bytes(best.now)}{_relief(best, demand, name)}"


@dataclass(frozen=True, slots=True)
class _Free:
    """What a GPU has for floors: in whole slices, as kube-scheduler and the kubelet count."""

    gpu: GpuRoom
    node: NodeRoom

    @property
    def in_all(self) -> int:
        return replace(self.gpu, members=(), reserved=0).largest_floor(unit=self.node.unit)

    @property
    def now(self) -> int:
        return self.gpu.largest_floor(unit=self.node.unit)

    def once_ended(self, member: Member) -> int:
        rest = tuple(other for other in self.gpu.members if other is not member)
        return replace(self.gpu, members=rest).largest_floor(unit=self.node.unit)


def _most(everywhere: Iterable[_Free], demand: Demand) -> str:
    """The node with room on most of its GPUs."""
    room: dict[NodeName, list[bool]] = {}
    for free in everywhere:
        room.setdefault(free.node.name, []).append(free.now >= demand.floor)
    best = max(room, key=lambda name: sum(room[name]))
    return f"{best} has room on {sum(room[best])} of {len(room[best])}"


def _relief(free: _Free, demand: Demand, name: Callable[[PodUid], str]) -> str:
    """Whose end would help most: the lowest priority of those that would make it fit, else who takes most."""
    gpu = free.gpu
    if not gpu.members:
        return ""
    after = {member: free.once_ended(member) for member in gpu.members}
    enough = [member for member in gpu.members if after[member] >= demand.floor]
    chosen = (
        min(enough, key=lambda member: member.drop_order)
        if enough
        else max(gpu.members, key=lambda member: (after[member], member.uid))
    )
    return f", and {format_bytes(after[chosen])} once {name(chosen.uid)} ends"


def timeout_message(wait: Waiting, shortage: str) -> str:
    """What is said once the time is over; the pod stays in the queue. `shortage` is empty where it fits."""
    message = f"still waiting after {format_duration(wait.timeout)}; stays queued"
    return f"{message}: {shortage}" if shortage else message
