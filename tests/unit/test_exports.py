"""The library's public names, and what importing them costs."""

import json
import subprocess
import sys

import pytest

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


def test_a_name_that_is_not_public_is_none_of_the_librarys() -> None:
    assert set(arbiter.__all__) <= set(dir(arbiter))
    with pytest.raises(AttributeError, match="module 'arbiter' has no attribute 'nobody'"):
        _ = arbiter.nobody  # type: ignore[attr-defined]  # which mypy says too


def loaded_by(statement: str) -> set[str]:
    """Modules that a fresh interpreter has after the statement and had not before."""
    script = (
        f"import json, sys; before = set(sys.modules); {statement}; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout))


def test_the_library_needs_the_standard_library_only() -> None:
    tops = {name.partition(".")[0] for name in loaded_by("from arbiter import *")}
    assert tops - set(sys.stdlib_module_names) == {"arbiter"}


@pytest.mark.parametrize("module", ["arbiter", "arbiter.client", "arbiter.units"])
def test_who_imports_one_module_of_the_library_waits_for_no_other(module: str) -> None:
    assert {name for name in loaded_by(f"import {module}") if name.startswith("arbiter")} == {"arbiter", module}
