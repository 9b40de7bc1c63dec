"""A program of its own that reads NVIDIA's GPUs by NVML and prints them as JSON; the only module that needs pynvml.

It is run as a child (`python -m arbiter.detection.nvml`), because a call into a wedged driver never returns and no
thread can be ended from outside, and because nobody's process should load a driver's library for being asked.
Imports pynvml (package nvidia-ml-py) and the standard library.
"""

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

_Told = TypeVar("_Told")


def main() -> int:
    """Prints `{"driver": VERSION, "gpus": [...]}`; no GPU and no driver is an empty list, not a failure."""
    try:
        pynvml.nvmlInit()
        gpus = [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError_LibraryNotFound:
        print(json.dumps({"driver": None, "gpus": []}))
        return 0
    except pynvml.NVMLError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"driver": _optional(pynvml.nvmlSystemGetDriverVersion), "gpus": gpus}))
    return 0


def _gpu(index: int) -> dict[str, object]:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = _memory(handle)
    except pynvml.NVMLError as error:
        return {"index": index, "error": str(error)}
    capability = _optional(lambda: pynvml.nvmlDeviceGetCudaComputeCapability(handle))
    return {
        "index": index,
        "name": _optional(lambda: pynvml.nvmlDeviceGetName(handle)),
        "total": memory.total,
        "free": memory.free,
        "capability": capability and ".".join(map(str, capability)),
    }


def _memory(handle: Any) -> Any:
    """Version 2 of the call does not count what the driver reserves as free; older drivers have version 1 alone."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _optional(ask: Callable[[], _Told]) -> _Told | None:
    try:
        return ask()
    except pynvml.NVMLError:
        return None


if __name__ == "__main__":
    sys.exit(main())
