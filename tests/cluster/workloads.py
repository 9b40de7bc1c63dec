"""Builders of the manifests that the cluster tests apply: a GpuAllocation and a pod of the simulated engine each."""

from dataclasses import dataclass, replace
from typing import Any

import yaml

from arbiter.demand import Demand, resolve
from arbiter_kube.api.gpuallocation import GpuAllocationSpec

ENGINE_IMAGE = "local/arbiter-engine:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One engine and what it asks for; sizes as people write them, seconds for times."""

    name: str
    namespace: str = "default"
    workload_type: str = "LlmInference"
    priority: str = "Normal"
    full: str | None = None
    floor: str | None = None
    maximum: float | None = None
    minimum: float | None = None
    levels: tuple[tuple[float, str], ...] = ()
    resize: str = "InPlace"
    shrink_grace: str | None = None
    gpu_count: int = 1
    manner: str = "honest"
    apply_seconds: float = 0.1
    run_seconds: float | None = None

    def asking(self, **changes: Any) -> "Workload":
        """The same workload with another demand."""
        return replace(self, **changes)

    @property
    def key(self) -> str:
        """Namespace and name."""
        return f"{self.namespace}/{self.name}"

    @property
    def spec(self) -> dict[str, Any]:
        """The GpuAllocation's spec, only with what is asked for."""
        vram: dict[str, Any] = {"full": self.full, "floor": self.floor}
        if self.levels:
            vram["levels"] = [{"quality": quality, "vram": size} for quality, size in self.levels]
        spec = {
            "workloadType": self.workload_type,
            "priority": self.priority,
            "vram": {name: value for name, value in vram.items() if value is not None},
            "quality": {
                name: value
                for name, value in {"maximum": self.maximum, "minimum": self.minimum}.items()
                if value is not None
            },
            "resize": self.resize,
            "gpuCount": self.gpu_count,
        }
        return spec if self.shrink_grace is None else {**spec, "shrinkGrace": self.shrink_grace}

    @property
    def demand(self) -> Demand:
        """What the demand means, by the core's own reading."""
        return resolve(GpuAllocationSpec.model_validate(self.spec).request())

    @property
    def allocation(self) -> dict[str, Any]:
        """The GpuAllocation."""
        return {
            "apiVersion": "arbiter.infernum.io/v1alpha1",
            "kind": "GpuAllocation",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": self.spec,
        }

    @property
    def pod(self) -> dict[str, Any]:
        """The pod that names it."""
        command = ["python3", "/engine/engine.py", f"--apply-seconds={self.apply_seconds}", f"--manner={self.manner}"]
        if self.run_seconds is not None:
            command.append(f"--run-seconds={self.run_seconds}")
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "annotations": {"arbiter.infernum.io/allocation": self.name},
            },
            "spec": {
                "restartPolicy": "Always" if self.run_seconds is None else "OnFailure",
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 5,
                "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532},
                "containers": [
                    {
                        "name": "engine",
                        "image": ENGINE_IMAGE,
                        "imagePullPolicy": "IfNotPresent",
                        "command": command,
                        "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }
                ],
            },
        }

    @property
    def manifest(self) -> str:
        """Both, as YAML."""
        return as_yaml(self.allocation, self.pod)


def as_yaml(*documents: dict[str, Any]) -> str:
    """Documents of one file."""
    return yaml.safe_dump_all(documents, sort_keys=False)
