"""Objects of the operator's tests, with sensible defaults: only what a test is about is spelled out."""

from typing import Any

from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api.gpuallocation import GpuAllocation


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
