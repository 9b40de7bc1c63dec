"""The library's public names. `arbiter` has them all, and imports this module once it is asked for one of them."""

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
