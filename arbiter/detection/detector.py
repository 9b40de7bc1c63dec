"""Asks one vendor's tools after another, until one tells of a GPU. Imports the standard library only."""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from arbiter.arguments import seconds, size
from arbiter.detection.amd import by_amd_smi, by_rocm_smi
from arbiter.detection.answers import Answer
from arbiter.detection.apple import by_system_profiler
from arbiter.detection.command import Ask, ToolError, asking
from arbiter.detection.info import UNKNOWN_GPU, DetectionMethod, GpuDetectionResult, GpuInfo, GpuVendor
from arbiter.detection.intel import by_xpu_smi
from arbiter.detection.nvidia import by_nvidia_smi, by_nvml

DEFAULT_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class _Tool:
    """How one tool is asked. `is_there`: whether it is installed; where it is not nobody need hear of it."""

    method: DetectionMethod
    name: str
    is_there: Callable[[], bool]
    ask: Callable[[Ask], Answer]


def _command(method: DetectionMethod, name: str, ask: Callable[[Ask], Answer]) -> _Tool:
    return _Tool(method, name, lambda: shutil.which(name) is not None, ask)


def _has_pynvml() -> bool:
    return bool(sys.executable) and importlib.util.find_spec("pynvml") is not None


_TOOLS = (
    _Tool(DetectionMethod.NVML, "NVML", _has_pynvml, by_nvml),
    _command(DetectionMethod.NVIDIA_SMI, "nvidia-smi", by_nvidia_smi),
    _command(DetectionMethod.AMD_SMI, "amd-smi", by_amd_smi),
    _command(DetectionMethod.ROCM_SMI, "rocm-smi", by_rocm_smi),
    _command(DetectionMethod.XPU_SMI, "xpu-smi", by_xpu_smi),
    _command(DetectionMethod.SYSTEM_PROFILER, "system_profiler", by_system_profiler),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDetector:
    """Finds this machine's GPUs: NVIDIA's, else AMD's, else Intel's, else Apple's.

    `timeout`: seconds after which a tool is killed and the next one asked; a day at most. Detection raises nothing:
    what went wrong is in the result.

    Raises:
        ValueError: the timeout is no time.
    """

    timeout: float = DEFAULT_TIMEOUT

    def __post_init__(self) -> None:
        seconds(self.timeout, what="the timeout of GPU detection")

    def detect(self) -> GpuDetectionResult:
        """What the first tool tells that tells of any GPU; method None where none does. Blocks."""
        problems: list[str] = []
        for tool in _TOOLS:
            if not tool.is_there():
                continue
            try:
                found = tool.ask(asking(timeout=self.timeout))
            except ToolError as error:
                problems.append(f"{tool.name} {str(error).rstrip('.')}.")
                continue
            problems += found.problems
            if found.gpus:
                return GpuDetectionResult(method=tool.method, gpus=found.gpus, problems=tuple(problems))
        return GpuDetectionResult(method=DetectionMethod.NONE, problems=tuple(problems))

    def detect_or_default(self, vram: int) -> GpuDetectionResult:
        """As `detect`; where it finds nothing, one unknown GPU of `vram` bytes, all of them free.

        Raises:
            ValueError: no GPU has such a size.
        """
        size(vram, what="the size of the GPU to assume")
        found = self.detect()
        if found.gpus:
            return found
        unknown = GpuInfo(device_id=0, vendor=GpuVendor.UNKNOWN, name=UNKNOWN_GPU, vram_total=vram, vram_free=vram)
        return GpuDetectionResult(method=DetectionMethod.DEFAULT, gpus=(unknown,), problems=found.problems)
