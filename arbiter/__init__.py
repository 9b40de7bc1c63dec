"""Arbiter's library: shares a GPU's memory between workloads that can run at reduced quality. No Kubernetes needed.

| module | what |
|---|---|
| `workload`, `policy`, `demand`, `units`, `ids` | types, priorities, pressure, modes, sizes: what a workload asks for |
| `calculator`, `coordinator`, `memory` | quality from a type, a priority and the pressure; an account of bytes |
| `formula`, `curves`, `piecewise`, `price`, `equilibrium` | one price per GPU; every quality and size follows from it |
| `placement`, `preemption` | on which GPUs a newcomer goes, and who makes room |
| `targets` | the equilibrium where some have not given back in time |
| `transitions` | how bytes change hands: shrink before grow |
| `local` | `Arbiter`: one GPU shared by the threads and tasks of one process |
| `cache` | fragments of weights, kept once for all engines |
| `detection` | which GPUs this machine has |
| `client`, `run` | for engines in containers: read the target, or be run by it |

Errors, each of which says in one sentence what to write or do instead:

    ValueError
    ├── units.QuantityError                a size that is no size
    ├── demand.InvalidDemandError          a demand that contradicts itself
    └── transitions.InvalidRecordError     a record of the node agent that cannot be read
    ArbiterError                           what an `Arbiter` answers instead of an allocation (drawn in `local.errors`)
    cache.CacheError                       what a fragment cache cannot do (drawn in `cache.errors`)
    client.QualityError                    no target in this container, or its agent cannot be reached

Imports the standard library only.
"""

from arbiter.cache import CacheConfig, CacheStats, CacheTier, FragmentCache
from arbiter.calculator import QualityAllocation, QualityBudget, QualityCalculator
from arbiter.coordinator import Coordinator, CoordinatorConfig, QualitySuggestion
from arbiter.detection import DetectionMethod, GpuDetectionResult, GpuDetector, GpuInfo, GpuVendor
from arbiter.local.allocation import Allocation
from arbiter.local.arbiter import Arbiter
from arbiter.local.claim import QualityTarget
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import (
    ArbiterError,
    InsufficientMemory,
    InsufficientQuality,
    Internal,
    Preempted,
    ShuttingDown,
    Timeout,
)
from arbiter.local.request import AllocationOutcome, AllocationRequest, AllocationResult
from arbiter.local.statistics import ArbiterState, ArbiterStats
from arbiter.memory import GpuMemoryTracker, MemoryStats
from arbiter.workload import MemoryPressure, Priority, WorkloadType

# The reference's name. Here it is the mode of a policy, as in the custom resource QualityPolicy, which holds more.
from arbiter.workload import PolicyMode as QualityPolicy

__all__ = [
    "Allocation",
    "AllocationOutcome",
    "AllocationRequest",
    "AllocationResult",
    "Arbiter",
    "ArbiterConfig",
    "ArbiterError",
    "ArbiterState",
    "ArbiterStats",
    "CacheConfig",
    "CacheStats",
    "CacheTier",
    "Coordinator",
    "CoordinatorConfig",
    "DetectionMethod",
    "FragmentCache",
    "GpuDetectionResult",
    "GpuDetector",
    "GpuInfo",
    "GpuMemoryTracker",
    "GpuVendor",
    "InsufficientMemory",
    "InsufficientQuality",
    "Internal",
    "MemoryPressure",
    "MemoryStats",
    "Preempted",
    "Priority",
    "QualityAllocation",
    "QualityBudget",
    "QualityCalculator",
    "QualityPolicy",
    "QualitySuggestion",
    "QualityTarget",
    "ShuttingDown",
    "Timeout",
    "WorkloadType",
]
