"""The library's public names, and what importing them costs."""

import json
import subprocess
import sys

import arbiter
from arbiter.workload import PolicyMode

EXPORTED = {
    *("Arbiter", "ArbiterConfig", "ArbiterState", "ArbiterStats"),
    *("Allocation", "AllocationOutcome", "AllocationRequest", "AllocationResult", "QualityTarget"),
    *("ArbiterError", "InsufficientMemory", "InsufficientQuality"),
    *("Internal", "Preempted", "ShuttingDown", "Timeout"),
    *("CacheConfig", "CacheStats", "CacheTier", "FragmentCache"),
    *("Coordinator", "CoordinatorConfig", "QualitySuggestion"),
    *("DetectionMethod", "GpuDetectionResult", "GpuDetector", "GpuInfo", "GpuVendor"),
    *("GpuMemoryTracker", "MemoryPressure", "MemoryStats"),
    *("Priority", "WorkloadType"),
    *("QualityAllocation", "QualityBudget", "QualityCalculator", "QualityPolicy"),
}


def test_the_library_exports_the_names_of_the_reference() -> None:
    assert set(arbiter.__all__) == EXPORTED
    assert arbiter.__all__ == sorted(arbiter.__all__)
    assert all(getattr(arbiter, name).__doc__ for name in arbiter.__all__)


def test_the_policy_of_the_reference_is_the_mode_of_ours() -> None:
    assert arbiter.QualityPolicy is PolicyMode
    assert [policy.value for policy in arbiter.QualityPolicy] == [
        "Adaptive",
        "LlmFirst",
        "DiffusionFirst",
        "Balanced",
        "Fixed",
    ]


def test_importing_the_library_loads_the_standard_library_only() -> None:
    script = (
        "import json, sys; before = set(sys.modules); import arbiter\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(json.dumps(sorted(loaded - set(sys.stdlib_module_names))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == ["arbiter"]
