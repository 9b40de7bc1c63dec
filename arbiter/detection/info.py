"""What detection answers: GPUs, who told of them, and what went wrong on the way. Imports the standard library only."""

from dataclasses import dataclass
from enum import StrEnum


class GpuVendor(StrEnum):
    """Who made the GPU."""

    NVIDIA = "Nvidia"
    AMD = "Amd"
    INTEL = "Intel"
    APPLE = "Apple"
    UNKNOWN = "Unknown"


class DetectionMethod(StrEnum):
    """Who told of the GPUs; Default: nobody, the caller's size was taken."""

    NVML = "Nvml"
    NVIDIA_SMI = "NvidiaSmi"
    AMD_SMI = "AmdSmi"
    ROCM_SMI = "RocmSmi"
    XPU_SMI = "XpuSmi"
    SYSTEM_PROFILER = "SystemProfiler"
    DEFAULT = "Default"
    NONE = "None"


UNKNOWN_GPU = "Unknown GPU"
"""The name of a GPU that nobody names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInfo:
    """One GPU, its memory in bytes; None where its tool does not say."""

    device_id: int
    vendor: GpuVendor
    name: str
    vram_total: int
    vram_free: int | None = None
    compute_capability: str | None = None
    driver_version: str | None = None

    @property
    def utilisation(self) -> float | None:
        """Used share of the memory, 0..1: 0 for a GPU without any, None where nobody says what is free."""
        if not self.vram_total:
            return 0.0
        return None if self.vram_free is None else (self.vram_total - self.vram_free) / self.vram_total


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDetectionResult:
    """The GPUs of the first vendor that has any. `problems` are sentences about tools and cards that gave no answer."""

    method: DetectionMethod
    gpus: tuple[GpuInfo, ...] = ()
    problems: tuple[str, ...] = ()
