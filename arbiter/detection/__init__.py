"""Which GPUs this machine has, by asking the vendors' tools; each for a limited time.

| module | what |
|---|---|
| `info` | what is answered: GPUs, method, problems |
| `detector` | the order of the tools: NVML, nvidia-smi, amd-smi, rocm-smi, xpu-smi, system_profiler |
| `nvidia`, `amd`, `intel`, `apple` | what each tool is asked, and what its answer means |
| `answers` | numbers as text, words for "cannot tell", warnings before JSON |
| `command` | runs a tool, and kills it with all that it started when its time is over |
| `nvml` | the program that asks NVML, run as a child; alone here it imports pynvml |

Imports the standard library only, but for `nvml`.
"""

from arbiter.detection.detector import GpuDetector
from arbiter.detection.info import DetectionMethod, GpuDetectionResult, GpuInfo, GpuVendor

__all__ = ["DetectionMethod", "GpuDetectionResult", "GpuDetector", "GpuInfo", "GpuVendor"]
