"""Detection by NVML: the real pynvml in the child that the detector starts, on a stub of NVIDIA's library."""

import os
import time
from pathlib import Path

import pytest

from arbiter.detection import DetectionMethod, GpuDetectionResult, GpuDetector, GpuInfo, GpuVendor
from arbiter.units import GIB, MIB
from tests.support.nvml_stub import DRIVER_NOT_LOADED, FUNCTION_NOT_FOUND, LOST, NOT_SUPPORTED, NvmlStub, StubGpu, build

A100 = StubGpu(uuid="GPU-a", name="A100", total=40 * GIB, reserved=600 * MIB, used=10 * GIB)
L4 = StubGpu(uuid="GPU-b", name="L4", total=24 * GIB)
DETECTOR = GpuDetector(timeout=60.0)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def stub(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NvmlStub:
    """This machine's only driver: there are no tools on the PATH."""
    stub = NvmlStub(library, tmp_path / "script")
    changed = {name: value for name, value in stub.environment.items() if os.environ.get(name) != value}
    for name, value in {**changed, "PATH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    return stub


def found(
    index: int, name: str, *, total: int, free: int, capability: str | None = "9.0", driver: str | None = "580.95.05"
) -> GpuInfo:
    return GpuInfo(
        device_id=index,
        vendor=GpuVendor.NVIDIA,
        name=name,
        vram_total=total,
        vram_free=free,
        compute_capability=capability,
        driver_version=driver,
    )


def test_every_gpu_with_what_is_really_free(stub: NvmlStub) -> None:
    stub.write(A100, L4)
    assert DETECTOR.detect() == GpuDetectionResult(
        method=DetectionMethod.NVML,
        gpus=(
            found(0, "A100", total=40 * GIB, free=30 * GIB - 600 * MIB),
            found(1, "L4", total=24 * GIB, free=24 * GIB),
        ),
    )


def test_a_library_that_knows_the_older_call_alone(stub: NvmlStub) -> None:
    stub.write(A100, rules=[f"error nvmlDeviceGetMemoryInfo_v2 {FUNCTION_NOT_FOUND}"])
    assert DETECTOR.detect().gpus == (found(0, "A100", total=40 * GIB, free=30 * GIB - 600 * MIB),)


def test_what_the_driver_does_not_tell_stays_open(stub: NvmlStub) -> None:
    calls = ("nvmlSystemGetDriverVersion", "nvmlDeviceGetCudaComputeCapability")
    stub.write(L4, rules=[f"error {call} {NOT_SUPPORTED}" for call in calls])
    assert DETECTOR.detect().gpus == (found(0, "L4", total=24 * GIB, free=24 * GIB, capability=None, driver=None),)


def test_one_lost_gpu_hides_no_other(stub: NvmlStub) -> None:
    stub.write(A100, L4, rules=[f"error nvmlDeviceGetHandleByIndex_v2 {LOST} GPU-a"])
    assert DETECTOR.detect() == GpuDetectionResult(
        method=DetectionMethod.NVML,
        gpus=(found(1, "L4", total=24 * GIB, free=24 * GIB),),
        problems=("NVML cannot read GPU 0: GPU is lost.",),
    )


def test_a_gpu_without_memory_of_its_own(stub: NvmlStub) -> None:
    stub.write(
        L4,
        rules=[f"error {call} {NOT_SUPPORTED}" for call in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2")],
    )
    assert DETECTOR.detect() == GpuDetectionResult(
        method=DetectionMethod.NONE, problems=("NVML cannot read GPU 0: Not Supported.",)
    )


def test_a_machine_with_the_library_and_no_gpu(stub: NvmlStub) -> None:
    stub.write()
    assert DETECTOR.detect() == GpuDetectionResult(method=DetectionMethod.NONE)


@pytest.mark.parametrize("call", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2"])
def test_a_driver_that_does_not_answer(stub: NvmlStub, call: str) -> None:
    stub.write(A100, rules=[f"error {call} {DRIVER_NOT_LOADED}"])
    assert DETECTOR.detect() == GpuDetectionResult(
        method=DetectionMethod.NONE, problems=("NVML failed with 1: Driver Not Loaded.",)
    )


def test_a_driver_that_hangs_is_left_and_the_next_tool_asked(stub: NvmlStub, tmp_path: Path) -> None:
    stub.write(A100, rules=["hang nvmlDeviceGetMemoryInfo_v2"])
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 0, A100, 40960, 30120, 550.54.15, 8.0\n")
    tool.chmod(0o755)
    began = time.monotonic()
    answered = GpuDetector(timeout=3.0).detect()
    assert (answered.method, answered.problems) == (DetectionMethod.NVIDIA_SMI, ("NVML gave no answer within 3 s.",))
    assert time.monotonic() - began < 60
