"""Objects of the operator's tests, with sensible defaults: only what a test is about is spelled out."""

from fractions import Fraction
from typing import Any

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.units import GIB, MIB, Slices, slices_for
from arbiter.workload import MemoryPressure, Priority, Resize, WorkloadType
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api.annotations import FrozenDemand, TargetGrant
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.gpunode import GpuNodeStatus, GpuStatus, GrantOnNode, GrantState, SliceCount
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.node import NodeState


def pod_manifest(
    *,
    name: str = "chat",
    annotations: dict[str, str] | None = None,
    vram: str | None = None,
    containers: list[dict[str, Any]] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A pod as the API server shows it to admission; keys of annotations are without Arbiter's prefix."""
    container: dict[str, Any] = {"name": "main"}
    if vram is not None:
        container["resources"] = {"limits": {VRAM_RESOURCE: vram}, "requests": {VRAM_RESOURCE: vram}}
    return {
        "metadata": {"namespace": "team-a", "name": name, "annotations": prefixed(annotations or {})},
        "spec": {
            "containers": containers or [container],
            "schedulerName": "default-scheduler",
            "priority": 0,
            "preemptionPolicy": "PreemptLowerPriority",
        }
        | spec,
    }


def prefixed(annotations: dict[str, str]) -> dict[str, str]:
    """The same annotations with Arbiter's prefix; keys with a slash are left as they are."""
    return {key if "/" in key else f"arbiter.infernum.io/{key}": value for key, value in annotations.items()}


def allocation(name: str = "chat", *, namespace: str = "team-a", generation: int = 1, **spec: Any) -> GpuAllocation:
    """A GpuAllocation: chat of the golden figures unless `spec` (camel case) says otherwise."""
    chat = {
        "workloadType": "LlmInference",
        "priority": "High",
        "vram": {"full": "10Gi", "floor": "4Gi"},
        "quality": {"minimum": 0.4},
    }
    return GpuAllocation.model_validate(
        {
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": generation},
            "spec": chat | spec,
        }
    )


GPU = GpuUuid("GPU-0")


def demand(
    *,
    kind: str = "LlmInference",
    priority: str = "High",
    full: int = 10 * GIB,
    floor: int = 4 * GIB,
    minimum: str = "0.4",
    gpu_count: int = 1,
    resize: str = "InPlace",
) -> Demand:
    """The demand of chat unless said otherwise; bytes per GPU."""
    return Demand(
        workload_type=WorkloadType(kind),
        priority=Priority(priority),
        full=full,
        floor=floor,
        maximum=Fraction(1),
        minimum=Fraction(1) if floor == full else Fraction(minimum),
        gpu_count=gpu_count,
        resize=Resize(resize),
    )


POSTERS_DEMAND = demand(kind="ImageGeneration", priority="Background", full=6 * GIB, floor=1843 * MIB, minimum="0.3")


def gpu_pod(
    name: str = "chat-0",
    *,
    namespace: str = "team-a",
    of: Demand | None = None,
    allocation: str | None = "chat",
    gpus: tuple[GpuUuid, ...] = (GPU,),
    node: str | None = "gpu-1",
    grant: TargetGrant | None = None,
    generation: int = 1,
    asked: int = 0,
    **more: Any,
) -> GpuPod:
    """A pod of chat, bound to GPU-0 of gpu-1, unless said otherwise; `asked` slices stand in its template."""
    wanted = of or demand()
    return GpuPod(
        uid=PodUid(f"uid-{name}"),
        namespace=namespace,
        name=name,
        frozen=FrozenDemand(
            demand=wanted,
            container="main",
            allocation=allocation,
            allocation_uid=None if allocation is None else f"uid-{allocation}",
            generation=generation,
            asked=asked,
        ),
        slices=Slices(slices_for(wanted.floor, unit=GIB) * wanted.gpu_count),
        node=None if node is None else NodeName(node),
        gpus=gpus if node is not None else (),
        grant=grant,
        scheduler_name="arbiter-scheduler",
        **more,
    )


def posters(name: str = "posters-0", **more: Any) -> GpuPod:
    """A pod of posters, bound to the same GPU."""
    return gpu_pod(name, namespace="team-b", of=POSTERS_DEMAND, allocation="posters", **more)


def target(quality: str, vram: int, *, revision: int = 1) -> TargetGrant:
    """A target as it stands on a pod; `vram` in MiB."""
    return TargetGrant(
        quality=quality,
        vram=vram * MIB,
        revision=revision,
        pressure=MemoryPressure.LOW,
        mode="Adaptive",
        reason="before",
    )


def report(
    *grants: GrantOnNode, usable: tuple[int, ...] = (12 * GIB,), slices: tuple[SliceCount, ...] = ()
) -> GpuNodeStatus:
    """A GpuNode's status with GPUs GPU-0, GPU-1, ... of these usable bytes."""
    gpus = [
        GpuStatus(uuid=f"GPU-{index}", index=index, total=size, reserved=0, usable=size)
        for index, size in enumerate(usable)
    ]
    return GpuNodeStatus(gpus=gpus, grants=list(grants), slices=list(slices), unit=GIB)


def on_node(pod: GpuPod, vram: int, *, state: GrantState = GrantState.MOVABLE, **more: Any) -> GrantOnNode:
    """What the agent says of a pod that has, holds and applied `vram` (MiB)."""
    size = vram * MIB
    fields: dict[str, Any] = {
        "podUID": pod.uid,
        "namespace": pod.namespace,
        "pod": pod.name,
        "container": "main",
        "gpus": list(pod.gpus),
        "granted": size,
        "held": size,
        "applied": size,
        "movable": state is GrantState.MOVABLE,
        "revision": 1,
        "state": state,
    }
    return GrantOnNode.model_validate(fields | more)


def node(
    *pods: GpuPod, grants: tuple[GrantOnNode, ...] = (), usable: tuple[int, ...] = (12 * GIB,), **more: Any
) -> NodeState:
    """The state of gpu-1 with these pods."""
    return NodeState(name=NodeName("gpu-1"), report=report(*grants, usable=usable), pods=pods, **more)
