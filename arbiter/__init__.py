"""Arbiter's library: shares a GPU's memory between workloads that can run at reduced quality. No Kubernetes needed.

| module | what |
|---|---|
| `workload`, `policy`, `demand`, `units`, `ids` | types, priorities, pressure, modes, sizes: what a workload asks for |
| `calculator`, `coordinator`, `memory` | quality from a type, a priority and the pressure; an account of bytes |
| `formula`, `curves`, `piecewise`, `price`, `equilibrium` | one price per GPU; every quality and size follows from it |
| `placement`, `preemption` | on which GPUs a newcomer goes, and who makes room |
| `transitions` | how bytes change hands: shrink before grow |
| `detection` | which GPUs this machine has |
| `client`, `run` | for engines in containers: read the target, or be run by it |

Errors, each of which says in one sentence what to write or do instead:

    ValueError
    ├── units.QuantityError                a size that is no size
    ├── demand.InvalidDemandError          a demand that contradicts itself
    └── transitions.InvalidRecordError     a record of the node agent that cannot be read
    client.QualityError                    no target in this container, or its agent cannot be reached

Imports the standard library only.
"""

from arbiter.calculator import QualityAllocation, QualityBudget, QualityCalculator
from arbiter.coordinator import Coordinator, CoordinatorConfig, QualitySuggestion
from arbiter.detection import DetectionMethod, GpuDetectionResult, GpuDetector, GpuInfo, GpuVendor
from arbiter.memory import GpuMemoryTracker, MemoryStats
from arbiter.workload import MemoryPressure, Priority, WorkloadType

# The reference's name. Here it is the mode of a policy, as in the custom resource QualityPolicy, which holds more.
from arbiter.workload import PolicyMode as QualityPolicy

__all__ = [
    "Coordinator",
    "CoordinatorConfig",
    "DetectionMethod",
    "GpuDetectionResult",
    "GpuDetector",
    "GpuInfo",
    "GpuMemoryTracker",
    "GpuVendor",
    "MemoryPressure",
    "MemoryStats",
    "Priority",
    "QualityAllocation",
    "QualityBudget",
    "QualityCalculator",
    "QualityPolicy",
    "QualitySuggestion",
    "WorkloadType",
]
