"""Which tool is believed, and what is answered where none tells of a GPU."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.detection import DetectionMethod, GpuDetectionResult, GpuDetector, GpuInfo, GpuVendor
from arbiter.detection.amd import by_amd_smi, by_rocm_smi
from arbiter.detection.answers import Answer
from arbiter.detection.apple import by_system_profiler
from arbiter.detection.command import Ask, ToolError
from arbiter.detection.intel import by_xpu_smi
from arbiter.detection.nvidia import by_nvidia_smi, by_nvml
from arbiter.units import GIB
from tests.unit.detection import test_amd, test_intel, test_nvidia
from tests.unit.detection.conftest import Machine

ROCM = "--showmeminfo vram --showproductname --showdriverversion --json"
RADEON = json.dumps({"card0": test_amd.NAVI, "system": test_amd.SYSTEM})


def test_a_machine_without_tools_has_no_gpu_and_no_problem(machine: Machine) -> None:
    assert GpuDetector(timeout=60.0).detect() == GpuDetectionResult(method=DetectionMethod.NONE)


def test_a_tool_may_take_five_seconds_unless_said_otherwise() -> None:
    assert GpuDetector().timeout == 5.0


def test_the_first_vendor_that_has_a_gpu_is_answered(machine: Machine) -> None:
    machine.tool("nvidia-smi", {test_nvidia.FULL: test_nvidia.TWO_CARDS})
    machine.tool("rocm-smi", {ROCM: RADEON})
    found = GpuDetector(timeout=60.0).detect()
    assert found == GpuDetectionResult(method=DetectionMethod.NVIDIA_SMI, gpus=(test_nvidia.H100, test_nvidia.TESLA))


def test_a_tool_that_does_not_answer_is_told_and_the_next_one_asked(machine: Machine) -> None:
    machine.script("nvidia-smi", "exec /bin/sleep 600")
    machine.script("amd-smi", "echo ModuleNotFoundError >&2; exit 1")
    machine.tool("rocm-smi", {ROCM: RADEON})
    found = GpuDetector(timeout=1.5).detect()
    assert (found.method, found.gpus) == (DetectionMethod.ROCM_SMI, (test_amd.rocm(0, test_amd.NAVI),))
    assert found.problems[-2:] == (
        "nvidia-smi gave no answer within 1.5 s.",
        "amd-smi failed with 1: ModuleNotFoundError.",
    )


def test_intel_comes_after_the_others(machine: Machine) -> None:
    machine.tool("nvidia-smi", {test_nvidia.FULL: ""})
    machine.tool("xpu-smi", {test_intel.LIST: json.dumps({"device_list": [test_intel.WHOLE]})})
    assert GpuDetector(timeout=60.0).detect() == GpuDetectionResult(
        method=DetectionMethod.XPU_SMI, gpus=(test_intel.GPU,)
    )


def test_a_default_is_taken_only_where_nothing_is_found(machine: Machine) -> None:
    machine.script("nvidia-smi", "exit 9")
    unknown = GpuInfo(device_id=0, vendor=GpuVendor.UNKNOWN, name="Unknown GPU", vram_total=8 * GIB, vram_free=8 * GIB)
    assert GpuDetector(timeout=60.0).detect_or_default(8 * GIB) == GpuDetectionResult(
        method=DetectionMethod.DEFAULT,
        gpus=(unknown,),
        problems=("nvidia-smi failed with 9: without a word.",),
    )
    machine.tool("nvidia-smi", {test_nvidia.FULL: test_nvidia.TWO_CARDS})
    assert GpuDetector(timeout=60.0).detect_or_default(8 * GIB).method is DetectionMethod.NVIDIA_SMI


@pytest.mark.parametrize("size", [-1, 8.5, "8Gi", True])
def test_a_default_that_no_gpu_has_is_refused_in_a_sentence(size: Any, machine: Machine) -> None:
    with pytest.raises(ValueError, match="the size of the GPU to assume should be a whole number of bytes"):
        GpuDetector(timeout=60.0).detect_or_default(size)


@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_a_tool_may_be_waited_for_without_an_end(timeout: float, machine: Machine) -> None:
    machine.tool("nvidia-smi", {test_nvidia.FULL: test_nvidia.TWO_CARDS})
    assert GpuDetector(timeout=timeout).detect().gpus == (test_nvidia.H100, test_nvidia.TESLA)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5"])
def test_a_timeout_that_is_no_time_is_refused_in_a_sentence(timeout: Any) -> None:
    with pytest.raises(ValueError, match="the timeout of GPU detection should be 0 seconds or more"):
        GpuDetector(timeout=timeout)


@pytest.mark.parametrize(
    ("total", "free", "utilisation"), [(8, 2, 0.75), (8, 8, 0.0), (0, 0, 0.0), (0, None, 0.0), (8, None, None)]
)
def test_utilisation(total: int, free: int | None, utilisation: float | None) -> None:
    gpu = GpuInfo(device_id=0, vendor=GpuVendor.UNKNOWN, name="GPU", vram_total=total, vram_free=free)
    assert gpu.utilisation == utilisation


NAMES = (
    "gpu_data gpu mem_usage total_vram value unit asic driver card0 system VRAM Total Memory (B) device_list device_id "
    "memory_physical_size_byte error gpus index total SPDisplaysDataType SPHardwareDataType physical_memory 8 GB"
)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(NAMES.split())
)
documents = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*NAMES.split(), "VRAM Total Memory (B)"]), inner, max_size=4)
    ),
    max_leaves=12,
)
READERS = (by_nvml, by_nvidia_smi, by_amd_smi, by_rocm_smi, by_xpu_smi, by_system_profiler)


@given(
    st.sampled_from(READERS), st.one_of(documents.map(json.dumps), st.text(alphabet='[]{},:"0129N/A \n', max_size=60))
)
def test_whatever_a_tool_writes_is_an_answer_or_none(read: Callable[[Ask], Answer], output: Any) -> None:
    try:
        found = read(lambda _: str(output))
    except ToolError:
        return
    assert all(gpu.vram_total > 0 for gpu in found.gpus)
