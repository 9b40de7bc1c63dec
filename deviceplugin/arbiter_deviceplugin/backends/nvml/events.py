"""What the driver reports by itself: an event set of NVML, used by one thread of its own."""

import logging
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import pynvml

from arbiter.ids import GpuUuid
from arbiter_deviceplugin.backends.nvml.health import EventKind, Report
from arbiter_deviceplugin.backends.worker import Worker

_log = logging.getLogger(__name__)

WAIT = 0.5
"""Seconds that one call waits for an event: as long as an end of the library may have to wait for it."""

_KINDS = EventKind.XID_CRITICAL | EventKind.DOUBLE_BIT_ECC

_EventSet = Any
"""A pointer that pynvml hands out; it has no type there."""


class Events:
    """One event set at a time. All methods but `stop` return when the thread has done them."""

    def __init__(self, *, limit: float) -> None:
        """`limit`: seconds that a call may take beyond the time that it is meant to wait."""
        self._worker = Worker("nvml-events", limit=WAIT + limit)
        self._set: _EventSet | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether a call has not returned in time."""
        return self._worker.is_stuck

    async def open(self, count: int) -> None:
        """Asks for the reports of the first `count` GPUs from now on; those that cannot be watched are logged.

        Raises:
            BackendError: NVML does not answer.
        """
        await self._worker.run(lambda: self._open(range(count), passed_over=()))

    async def wait(self) -> Report | None:
        """The next report; None after a while without any.

        Raises:
            BackendError: NVML does not answer.
        """
        return await self._worker.run(self._wait)

    async def close(self) -> None:
        """Ends the set, after the wait that may be under way.

        Raises:
            BackendError: NVML does not answer.
        """
        await self._worker.run(self._close)

    def stop(self) -> None:
        """Ends the thread once its call has returned."""
        self._worker.stop()

    def _open(self, indices: range, passed_over: Collection[int]) -> None:
        self._close()
        try:
            self._set = pynvml.nvmlEventSetCreate()
        except pynvml.NVMLError as error:
            _log.warning("gpus' health events cannot be had error=%s", error)
            return
        for index in indices:
            if index not in passed_over and not self._register(index):
                # After a failed registration the set is in no defined state (NVML's documentation).
                self._open(indices, (*passed_over, index))
                return

    def _register(self, index: int) -> bool:
        """Whether the set can be used on."""
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            kinds = pynvml.nvmlDeviceGetSupportedEventTypes(handle) & _KINDS
            pynvml.nvmlDeviceRegisterEvents(handle, kinds, self._set)
        except pynvml.NVMLError as error:
            _log.warning("gpu's health events cannot be had index=%d error=%s", index, error)
            return isinstance(error, pynvml.NVMLError_NotSupported)
        return True

    def _wait(self) -> Report | None:
        if self._set is None:
            time.sleep(WAIT)
            return None
        try:
            event = pynvml.nvmlEventSetWait_v2(self._set, int(WAIT * 1000))
            gpu = GpuUuid(pynvml.nvmlDeviceGetUUID(event.device))
        except pynvml.NVMLError_Timeout:
            return None
        except pynvml.NVMLError as error:
            # One lost GPU is enough for it, and says nothing about the others: their readings tell.
            _log.warning("waiting for gpus' health events failed error=%s", error)
            time.sleep(WAIT)
            return None
        return Report(gpu=gpu, kind=EventKind(event.eventType), data=event.eventData)

    def _close(self) -> None:
        if self._set is not None:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlEventSetFree(self._set)
        self._set = None
