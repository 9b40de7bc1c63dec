"""A process that holds as much memory of its GPU as it is told, by CUDA's driver API. Standard library only.

Reads ``hold BYTES`` from its input, allocates or frees until it holds that much, rounded down to whole chunks, and
answers ``holds BYTES``; or ``failed SENTENCE``. The first line is ``ready`` once it has its context. The end of its
input ends it.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

CHUNK = 64 << 20

_OUT_OF_MEMORY = 2


class CudaError(Exception):
    """A call that failed; the text names the call and CUDA's code."""


class Cuda:
    """The primary context of the first visible GPU, and chunks of its memory."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise CudaError(f"CUDA's driver library cannot be loaded: {error}") from error
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", ctypes.c_uint(0))
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._chunks: list[ctypes.c_uint64] = []

    def hold(self, size: int) -> int:
        """Holds as many whole chunks as `size` bytes have room for; returns their bytes.

        Raises:
            CudaError: the memory is not there.
        """
        while len(self._chunks) > size // CHUNK:
            self._call("cuMemFree_v2", self._chunks.pop())
        while len(self._chunks) < size // CHUNK:
            chunk = ctypes.c_uint64()
            self._call("cuMemAlloc_v2", ctypes.byref(chunk), ctypes.c_size_t(CHUNK))
            self._chunks.append(chunk)
        return len(self._chunks) * CHUNK

    def _call(self, name: str, *arguments: Any) -> None:
        function: Callable[..., int] = getattr(self._library, name)
        code = function(*arguments)
        if code:
            what = "out of memory" if code == _OUT_OF_MEMORY else f"code {code}"
            raise CudaError(f"{name}: {what}")


def main() -> None:
    """Answers until its input ends."""
    try:
        cuda = Cuda()
        print("ready", flush=True)
        for line in sys.stdin:
            print(f"holds {cuda.hold(int(line.split()[1]))}", flush=True)
    except CudaError as error:
        print(f"failed {error}", flush=True)


if __name__ == "__main__":
    main()
