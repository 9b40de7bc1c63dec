"""Manifests as people write them, as short as they can be."""

from collections.abc import Callable
from typing import Any

A = "arbiter.infernum.io"

Write = Callable[..., str]
"""Writes objects (or text) to a file and gives its name."""


def allocation(name: str = "chat", namespace: str = "default", **spec: object) -> dict[str, Any]:
    sizes = {"full": "10Gi", "floor": "4Gi"}
    return {
        "apiVersion": "arbiter.infernum.io/v1alpha1",
        "kind": "GpuAllocation",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"workloadType": "LlmInference", "vram": sizes} | spec,
    }


def template(limits: dict[str, object] | None = None, **annotations: object) -> dict[str, Any]:
    """Annotations by their names without prefix, `_` for `-`."""
    named = {f"arbiter.infernum.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    resources = {"resources": {"limits": limits}} if limits else {}
    return {"metadata": {"annotations": named}, "spec": {"containers": [{"name": "engine", **resources}]}}


def workload(kind: str, name: str, pods: dict[str, Any], **spec: object) -> dict[str, Any]:
    return {"apiVersion": "x/v1", "kind": kind, "metadata": {"name": name}, "spec": {"template": pods, **spec}}


def pod(name: str, pods: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, **pods["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pods["spec"]}


def inline(**annotations: object) -> dict[str, Any]:
    defaults = {"workload_type": "LlmInference", "vram_full": "10Gi", "vram_floor": "4Gi"}
    return template(None, **{**defaults, **annotations})


def policy(name: str = "default", **spec: object) -> dict[str, Any]:
    return {"apiVersion": f"{A}/v1alpha1", "kind": "QualityPolicy", "metadata": {"name": name}, "spec": spec}


def capped(namespace: str, priority: str) -> dict[str, Any]:
    return {"kind": "Namespace", "metadata": {"name": namespace, "labels": {f"{A}/max-priority": priority}}}
