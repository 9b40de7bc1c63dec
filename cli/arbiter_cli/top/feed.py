"""Keeps the picture of a cluster up to date by watches, and knows whether the API server still answers."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from arbiter_cli.kinds import TIMED_PODS
from arbiter_cli.snapshot import Snapshot, unit_of
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_kube.api.resources import GPU_ALLOCATIONS, GPU_NODES, NODES, QUALITY_POLICIES, Resource
from arbiter_kube.client import KubeClient, KubeError, Reflector, ReflectorTiming
from arbiter_kube.client.client import Selection
from arbiter_operator.cluster import Cluster
from arbiter_operator.rooms import Rooms

_HEARTBEAT = 2.0
"""Seconds between two questions whether the API server still answers, and the time for each."""

_TIMING = ReflectorTiming(backoff_ceiling=5.0)

T = TypeVar("T")


class Feed:
    """Live: `changed` is set whenever it did, `silent_since` (seconds since the epoch) while nobody answers."""

    def __init__(self, client: KubeClient, *, unit: int) -> None:
        """`unit` is the bytes of a slice."""
        self.changed = asyncio.Event()
        self.silent_since: float | None = None
        self._client = client
        self._cluster = Cluster(unit=unit)
        self._rooms = Rooms(unit=unit)
        self._pods = self._reflector(TIMED_PODS)
        self._nodes = self._reflector(NODES)
        self._reports = self._reflector(GPU_NODES)
        self._allocations = self._reflector(GPU_ALLOCATIONS)
        self._policies = self._reflector(QUALITY_POLICIES)

    @classmethod
    async def start(cls, client: KubeClient, *, within: float) -> "Feed":
        """A feed for a cluster that may be read.

        Raises:
            KubeError: some kind of object may not be listed, or there is no answer.
        """
        reports = await client.list(GPU_NODES, within=within)
        for resource in (TIMED_PODS, NODES, GPU_ALLOCATIONS, QUALITY_POLICIES):
            await client.page(resource, Selection(), limit=1, within=within)
        return cls(client, unit=unit_of(reports))

    def snapshot(self) -> Snapshot:
        """How things stand."""
        return Snapshot(
            cluster=self._cluster,
            pods=self._pods.objects,
            nodes=self._nodes.objects.values(),
            rooms=self._rooms,
            at=time.time(),
        )

    @property
    def is_complete(self) -> bool:
        """Whether everything has been seen as a whole."""
        every = (self._pods, self._nodes, self._reports, self._allocations, self._policies)
        return all(reflector.synced.is_set() for reflector in every)

    async def run(self) -> None:
        """Follows everything until it is cancelled; an API server that goes away is waited for."""
        cluster = self._cluster
        async with asyncio.TaskGroup() as group:
            for following in (
                self._follow(self._pods, cluster.pod_applied, cluster.pod_deleted),
                self._follow(self._nodes, cluster.node_applied, cluster.node_deleted),
                self._follow(self._reports, cluster.report_applied, cluster.report_deleted),
                self._follow(self._allocations, cluster.allocation_applied, self._allocation_deleted),
                self._follow(self._policies, cluster.policy_applied, self._policy_deleted),
                self._listen(),
            ):
                group.create_task(following)

    def _reflector(self, resource: Resource[T]) -> Reflector[T]:
        return Reflector(self._client, resource, timing=_TIMING)

    async def _follow(
        self, reflector: Reflector[T], applied: Callable[[T], None], deleted: Callable[[T], None]
    ) -> None:
        async for _ in reflector.applying(applied=applied, deleted=deleted):
            self.changed.set()

    def _allocation_deleted(self, allocation: GpuAllocation) -> None:
        self._cluster.allocation_deleted(ObjectKey(allocation.metadata.namespace, allocation.metadata.name))

    def _policy_deleted(self, policy: QualityPolicy) -> None:
        self._cluster.policy_deleted(policy.metadata.name)

    async def _listen(self) -> None:
        """Watches may be silent for a minute when nothing happens, so silence is noticed by asking."""
        while True:
            asked_at = time.time()
            try:
                await self._client.server_version(within=_HEARTBEAT)
            except KubeError:
                self.silent_since = self.silent_since or asked_at
            else:
                self.silent_since = None
            self.changed.set()
            await asyncio.sleep(_HEARTBEAT)
