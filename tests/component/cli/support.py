"""Objects of a shared GPU at a real API server."""

from collections.abc import Callable
from typing import Any

from arbiter.demand import DemandRequest, resolve
from arbiter.units import GIB, MIB, slices_for
from arbiter.workload import MemoryPressure, Priority, WorkloadType
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api import annotations as a
from arbiter_kube.api.annotations import FrozenDemand, TargetGrant
from arbiter_kube.api.objects import Pod
from arbiter_kube.api.resources import GPU_NODES, NAMESPACES, NODES, PODS, QUALITY_POLICIES
from arbiter_kube.client import KubeClient

NAMESPACE = "team-a"

Arbiter = Callable[..., tuple[int, str, str]]
"""Runs the command in this process: exit code, stdout and stderr."""


class Written:
    """chat and posters on gpu-1/0, render without room."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._pods: list[Pod] = []

    async def write(self) -> None:
        client = self._client
        await client.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        await client.create(QUALITY_POLICIES, {"metadata": {"name": "default"}, "spec": {}})
        await client.create(NODES, {"metadata": {"name": "gpu-1"}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        status = {
            "conditions": [ready],
            "allocatable": {VRAM_RESOURCE: "12", "cpu": "8", "memory": "64Gi", "pods": "9"},
        }
        await client.patch(NODES, "gpu-1", {"status": status}, subresource="status")
        await client.patch(NODES, "gpu-1", {"spec": {"taints": None}})
        await client.create(GPU_NODES, {"metadata": {"name": "gpu-1"}})
        joined = "team-a/posters (Background) joined gpu-1/0"
        await self.pod("chat", target=("0.904", 9256), reason=joined)
        await self.pod(
            "posters",
            kind=WorkloadType.IMAGE_GENERATION,
            priority=Priority.BACKGROUND,
            full=6 * GIB,
            floor=1843 * MIB,
            target=("0.493", 3028),
            reason="placed on gpu-1/0 beside team-a/chat (High)",
        )
        render = await self.pod(
            "render", kind=WorkloadType.VIDEO_GENERATION, priority=Priority.LOW, full=24 * GIB, floor=10 * GIB
        )
        refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
        await self._status(render, {"conditions": [refused]})
        await self.report()

    async def pod(
        self,
        name: str,
        *,
        kind: WorkloadType = WorkloadType.LLM_INFERENCE,
        priority: Priority = Priority.HIGH,
        full: int = 10 * GIB,
        floor: int = 4 * GIB,
        target: tuple[str, int] | None = None,
        reason: str = "",
    ) -> Pod:
        """A pod as admission, extender and operator would have written it; the target's size in MiB."""
        demand = resolve(DemandRequest(workload_type=kind, priority=priority, full=full, floor=floor))
        notes = {a.DEMAND: a.encode_demand(FrozenDemand(demand=demand, container="engine"))}
        units = str(slices_for(floor, unit=GIB))
        container = {"name": "engine", "image": "none", "resources": {"limits": {VRAM_RESOURCE: units}}}
        spec: dict[str, Any] = {"schedulerName": "arbiter-scheduler", "containers": [container]}
        if target is not None:
            spec["nodeName"] = "gpu-1"
            notes[a.GPUS] = "GPU-0"
        body = {"metadata": {"name": name, "annotations": notes}, "spec": spec}
        pod = await self._client.create(PODS, body, namespace=NAMESPACE)
        if target is not None:
            grant = TargetGrant(
                quality=target[0],
                vram=target[1] * MIB,
                revision=1,
                pressure=MemoryPressure.HIGH,
                mode="Adaptive",
                reason=reason,
            )
            change = {"metadata": {"annotations": a.target_annotations(grant)}}
            pod = await self._client.patch(PODS, name, change, namespace=NAMESPACE)
            await self._status(pod, {"phase": "Running"})
        self._pods.append(pod)
        return pod

    async def _status(self, pod: Pod, status: dict[str, Any]) -> None:
        await self._client.patch(PODS, pod.metadata.name, {"status": status}, namespace=NAMESPACE, subresource="status")

    async def report(self) -> None:
        """What the agent of gpu-1 says: everybody has what was told."""
        gpu = {"uuid": "GPU-0", "index": 0, "name": "SIM-12G", "total": 12 * GIB, "reserved": 0, "usable": 12 * GIB}
        grants = [self._grant(pod) for pod in self._pods if pod.node]
        status = {"unit": GIB, "agentVersion": "0.1.0", "gpus": [gpu | {"enforcement": "monitor"}], "grants": grants}
        await self._client.patch(GPU_NODES, "gpu-1", {"status": status}, subresource="status")

    def _grant(self, pod: Pod) -> dict[str, Any]:
        told = a.decode_grant(pod.metadata.annotations[a.GRANT])
        return {
            "podUID": pod.uid,
            "namespace": NAMESPACE,
            "pod": pod.metadata.name,
            "container": "engine",
            "gpus": ["GPU-0"],
            "granted": told.vram,
            "quality": float(told.quality),
            "held": told.vram,
            "applied": told.vram,
            "movable": True,
            "revision": told.revision,
            "state": "Movable",
        }
