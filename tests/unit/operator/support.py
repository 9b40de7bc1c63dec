"""An engine, and its API server as it sees that: what a watch tells of, and what becomes of writes."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from msgspec.structs import replace
from pydantic import BaseModel

from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api import annotations as a
from arbiter_kube.api.fields import ObjectMeta as Named
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.gpunode import GpuNode, GpuNodeStatus
from arbiter_kube.api.objects import (
    Condition,
    Container,
    ObjectKey,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
    ResourceRequirements,
)
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_kube.api.resources import QUALITY_POLICIES, Resource
from arbiter_kube.client.events import EventRecorder, Notice
from arbiter_operator.cluster import Cluster
from arbiter_operator.engine import Engine
from arbiter_operator.writer import Writer


class Api:
    """What it has is in `cluster` at once; it plays the writer, for whom evictions are left to each test."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._versions = itertools.count(1000)

    def show(self, seen: GpuPod, *, conditions: tuple[Condition, ...] = (), **metadata: Any) -> None:
        """The pod is new or changed."""
        self.cluster.pod_applied(
            Pod(
                metadata=ObjectMeta(
                    name=seen.name,
                    namespace=seen.namespace,
                    uid=seen.uid,
                    resource_version=self._version(),
                    creation_timestamp=datetime.fromtimestamp(seen.created_at, UTC),
                    annotations={a.DEMAND: a.encode_demand(seen.frozen), a.GPUS: ",".join(seen.gpus)},
                    **metadata,
                ),
                spec=PodSpec(
                    node_name=seen.node,
                    scheduler_name=seen.scheduler_name,
                    containers=(
                        Container(
                            name=seen.frozen.container,
                            resources=ResourceRequirements(limits={VRAM_RESOURCE: str(seen.slices)}),
                        ),
                    ),
                ),
                status=PodStatus(conditions=conditions),
            )
        )

    def end(self, pod: GpuPod) -> None:
        """The pod is gone."""
        self.cluster.pod_deleted(self._stored(pod))

    def report(self, node: str, status: GpuNodeStatus) -> None:
        """What the node's agent says."""
        body = {"metadata": {"name": node}, "status": status.model_dump(by_alias=True)}
        self.cluster.report_applied(GpuNode.model_validate(body))

    async def annotate(self, pod: GpuPod, annotations: Mapping[str, str]) -> Pod:
        """As the writer does."""
        stored = self._stored(pod)
        before = stored.metadata
        after = replace(before, annotations={**before.annotations, **annotations}, resource_version=self._version())
        return replace(stored, metadata=after)

    async def status(self, resource: Resource[Any], of: Named, status: BaseModel) -> BaseModel | None:
        """As the writer does."""
        stored: GpuAllocation | QualityPolicy | None
        if resource is QUALITY_POLICIES:
            stored = self.cluster.policies.get(of.name)
        else:
            stored = self.cluster.allocations.get(ObjectKey(of.namespace, of.name))
        return None if stored is None else stored.model_copy(update={"status": status})

    def _stored(self, pod: GpuPod) -> Pod:
        known = self.cluster.pod(pod.uid)
        assert known is not None
        return known.raw

    def _version(self) -> str:
        return str(next(self._versions))


class Told:
    """Reason and sentence of every event."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def record(self, notice: Notice) -> None:
        """Keeps it."""
        self.events.append((notice.reason, notice.message))


class Replica:
    """One that leads while the task that `lead` returns is at work. `clock`: seconds since the epoch."""

    def __init__(self, api: Api, *, clock: Callable[[], float]) -> None:
        self.cluster = api.cluster
        self.told = Told()
        self.engine = Engine(
            api.cluster,
            writer=cast("Writer", api),
            recorder=cast("EventRecorder", self.told),
            clock=clock,
        )

    def lead(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.engine.run())

    async def passes(self, seconds: float) -> None:
        """The engine is told that something changed, and given time."""
        self.engine.wake()
        await asyncio.sleep(seconds)
