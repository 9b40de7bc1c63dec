"""What people's commands read of a cluster: every object once, and the same picture of it that the operator has."""

import asyncio
import time
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
    """The objects of a cluster at one moment, `at` in seconds since the epoch."""

    pods: tuple[TimedPod, ...] = ()
    nodes: tuple[Node, ...] = ()
    reports: tuple[GpuNode, ...] = ()
    allocations: tuple[GpuAllocation, ...] = ()
    policies: tuple[QualityPolicy, ...] = ()
    at: float

    @cached_property
    def unit(self) -> int:
        """Bytes of a slice, as the nodes count."""
        return next((report.status.unit for report in self.reports if report.status.unit), GIB)

    @cached_property
    def cluster(self) -> Cluster:
        """What the operator would know of it."""
        known = Cluster(unit=self.unit)
        for policy in self.policies:
            known.policy_applied(policy)
        for node in self.nodes:
            known.node_applied(node)
        for report in self.reports:
            known.report_applied(report)
        for allocation in self.allocations:
            known.allocation_applied(allocation)
        for pod in self.pods:
            known.pod_applied(pod)
        return known

    @cached_property
    def rooms(self) -> Rooms:
        """The nodes' rooms for newcomers."""
        return Rooms(unit=self.unit)

    @cached_property
    def queue(self) -> tuple[Queued, ...]:
        """Everybody who waits for room, oldest first."""
        return tuple(queued(self.cluster, self.rooms, self.at))

    def pod(self, key: ObjectKey) -> TimedPod | None:
        """A pod of any kind."""
        return next((pod for pod in self.pods if pod.key == key), None)

    def seen(self, pod: TimedPod) -> GpuPod | None:
        """The pod as Arbiter sees it; None where it asks for no GPU memory."""
        known = self.cluster.pod(pod.uid)
        return None if known is None else known.seen


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
    return Snapshot(pods=pods, nodes=nodes, reports=reports, allocations=allocations, policies=policies, at=time.time())
