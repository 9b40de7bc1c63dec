"""NVIDIA GPUs by NVML, through `pynvml` (package nvidia-ml-py). Every call runs in one thread with a time limit."""

import logging
from dataclasses import replace
from typing import Any

import pynvml

from arbiter.ids import GpuUuid
from arbiter.units import MIB
from arbiter_deviceplugin.backends import BackendError, Gpu, Reading
from arbiter_deviceplugin.backends.worker import Worker

_log = logging.getLogger(__name__)

_CALL_LIMIT = 10.0
_LEAST_RESERVE = 256 * MIB
_RESERVE_PERCENT = 3

_Handle = Any
"""A pointer that pynvml hands out; it has no type there."""


class NvmlBackend:
    """All GPUs of the machine. Initialised at the first reading, and again after the library failed as a whole."""

    vendor = "nvidia"
    shows_gpus = True

    def __init__(self, *, limit: float = _CALL_LIMIT) -> None:
        """`limit`: seconds that one reading may take."""
        self._worker = Worker("nvml", limit=limit)
        self._initialised = False
        self._known: dict[GpuUuid, Gpu] = {}

    async def read(self) -> Reading:
        """The GPUs now; one that cannot be asked any more is shown as it was last, not healthy.

        Raises:
            BackendError: NVML cannot be loaded, or does not answer.
        """
        return await self._worker.run(self._read)

    async def close(self) -> None:
        """Shuts NVML down unless it hangs."""
        try:
            await self._worker.run(self._shut_down)
        except BackendError as error:
            _log.warning("nvml left as it is error=%s", error)
        self._worker.stop()

    def _read(self) -> Reading:
        try:
            if not self._initialised:
                pynvml.nvmlInit()
                self._initialised = True
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            self._shut_down()
            raise BackendError(f"NVML does not answer: {error}.") from error
        readings = [self._gpu(index) for index in range(count)]
        gpus = {gpu.uuid: gpu for gpu in readings if isinstance(gpu, Gpu)}
        why = next((reading for reading in readings if isinstance(reading, str)), "it is not listed any more")
        lost = {uuid: _lost(gpu, why) for uuid, gpu in self._known.items() if uuid not in gpus}
        self._known |= gpus
        return Reading(gpus=tuple(sorted((gpus | lost).values(), key=lambda gpu: gpu.index)))

    def _shut_down(self) -> None:
        if not self._initialised:
            return
        self._initialised = False
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            _log.warning("nvml shutdown failed error=%s", error)

    def _gpu(self, index: int) -> Gpu | str:
        """The GPU, or why it cannot be read."""
        try:
            return _ask(pynvml.nvmlDeviceGetHandleByIndex(index), index)
        except pynvml.NVMLError as error:
            _log.warning("gpu cannot be read index=%d error=%s", index, error)
            return str(error)


def _lost(gpu: Gpu, why: str) -> Gpu:
    return replace(gpu, used=None, healthy=False, reason=f"NVML cannot read it: {why}.")


def _ask(handle: _Handle, index: int) -> Gpu:
    total, reserved, used = _memory(handle)
    return Gpu(
        uuid=GpuUuid(pynvml.nvmlDeviceGetUUID(handle)),
        index=index,
        name=pynvml.nvmlDeviceGetName(handle),
        total=total,
        reserved=reserved,
        used=used,
    )


def _memory(handle: _Handle) -> tuple[int, int, int]:
    """Total, reserved and used; version 1 of the call counts what the driver reserves as used and does not tell it."""
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        reserved = max(memory.total * _RESERVE_PERCENT // 100, _LEAST_RESERVE)
        return memory.total, reserved, memory.used
    return memory.total, memory.reserved, memory.used
