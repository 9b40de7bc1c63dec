"""What people's commands know of a cluster: the same picture of it that the operator has, at one moment."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from arbiter.units import GIB
from arbiter_cli.access import Access
from arbiter_cli.kinds import TIMED_PODS, TimedPod
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import Node, ObjectKey
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_kube.api.resources import GPU_ALLOCATIONS, GPU_NODES, NODES, QUALITY_POLICIES
from arbiter_operator.cluster import Cluster
from arbiter_operator.places import Queued, queued
from arbiter_operator.rooms import Rooms


@dataclass(frozen=True, kw_only=True)  # no slots: what follows from it is worked out once and kept
class Snapshot:
    """A cluster, all of its pods and nodes, and the rooms of its nodes, `at` in seconds since the epoch."""

    cluster: Cluster
    pods: Mapping[ObjectKey, TimedPod]
    nodes: Collection[Node]
    rooms: Rooms
    at: float

    @cached_property
    def queue(self) -> tuple[Queued, ...]:
        """Everybody who waits for room, oldest first."""
        return tuple(queued(self.cluster, self.rooms, self.at))

    def seen(self, pod: TimedPod) -> GpuPod | None:
        """The pod as Arbiter sees it; None where it asks for no GPU memory."""
        known = self.cluster.pod(pod.uid)
        return None if known is None else known.seen


def unit_of(reports: Iterable[GpuNode]) -> int:
    """Bytes of a slice, as the nodes count."""
    return next((report.status.unit for report in reports if report.status.unit), GIB)


def snapshot_of(
    *,
    pods: Iterable[TimedPod] = (),
    nodes: Iterable[Node] = (),
    reports: Iterable[GpuNode] = (),
    allocations: Iterable[GpuAllocation] = (),
    policies: Iterable[QualityPolicy] = (),
    at: float,
) -> Snapshot:
    """The cluster in which these objects are."""
    known, hosts, everybody = tuple(reports), tuple(nodes), {pod.key: pod for pod in pods}
    unit = unit_of(known)
    cluster = Cluster(unit=unit)
    for policy in policies:
        cluster.policy_applied(policy)
    for node in hosts:
        cluster.node_applied(node)
    for report in known:
        cluster.report_applied(report)
    for allocation in allocations:
        cluster.allocation_applied(allocation)
    for pod in everybody.values():
        cluster.pod_applied(pod)
    return Snapshot(cluster=cluster, pods=everybody, nodes=hosts, rooms=Rooms(unit=unit), at=at)


async def read_snapshot(access: Access) -> Snapshot:
    """Everything at this moment.

    Raises:
        KubeError: a list is refused, or does not come.
    """
    client, within = access.client, access.within
    pods, nodes, reports, allocations, policies = await asyncio.gather(
        client.list(TIMED_PODS, within=within),
        client.list(NODES, within=within),
        client.list(GPU_NODES, within=within),
        client.list(GPU_ALLOCATIONS, within=within),
        client.list(QUALITY_POLICIES, within=within),
    )
    return snapshot_of(
        pods=pods, nodes=nodes, reports=reports, allocations=allocations, policies=policies, at=time.time()
    )
