"""The NVML backend: every call in a thread with a time limit, and the library started anew when that may help.

The library, its events and each GPU have a thread of their own, so that a GPU whose driver hangs stalls nothing else.
Imports, like the whole package, pynvml, the core and what reads /proc: `make gpu-check` runs it where nothing else is.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import pynvml

from arbiter.ids import GpuUuid
from arbiter_deviceplugin.backends import BackendError, Reading
from arbiter_deviceplugin.backends.nvml.device import Device
from arbiter_deviceplugin.backends.nvml.events import Events
from arbiter_deviceplugin.backends.nvml.health import Health
from arbiter_deviceplugin.backends.nvml.picture import Answer, Failure, Picture
from arbiter_deviceplugin.backends.worker import Worker

_log = logging.getLogger(__name__)

_CALL_LIMIT = 5.0

_PAUSE = 2.0
"""Seconds between two readings where nothing is reported."""

_LEAST_BEFORE_ANEW, _MOST_BEFORE_ANEW = 5.0, 300.0
"""Seconds until the library is started anew for a lost GPU: doubled each time."""


class NvmlBackend:
    """All GPUs of the machine. Initialised at the first reading, and again after the library failed as a whole."""

    vendor = "nvidia"
    shows_gpus = True

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        ignored_xids: Collection[int] = (),
        limit: float = _CALL_LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`proc` shows the host's processes; `limit`: seconds that one GPU, or the library, may take to answer."""
        self._proc = proc
        self._limit = limit
        self._clock = clock
        self._library = Worker("nvml", limit=limit)
        self._events = Events(limit=limit)
        self._workers: list[Worker] = []
        self._devices: list[Device] = []
        self._is_attached = False
        self._health = Health(ignored_xids=ignored_xids)
        self._picture = Picture(self._health)
        self._reading = asyncio.Lock()
        self._anew_at: float | None = None
        self._anew_after = _LEAST_BEFORE_ANEW

    async def read(self) -> Reading:
        """The GPUs now; one that cannot be asked any more is shown as it was last, not healthy.

        Raises:
            BackendError: NVML cannot be loaded, or does not answer.
        """
        async with self._reading:
            if self._anew_at is not None and self._clock() >= self._anew_at:
                self._anew_at = None
                await self._detach()
            await self._attach()
            answers = await asyncio.gather(*(self._ask(index) for index in range(len(self._devices))))
            reading = self._picture.take(answers, now=self._clock())
            self._plan()
            return reading

    async def idle(self) -> None:
        """Two seconds, or until the driver reports something that makes a GPU unhealthy."""
        if not self._is_attached or self._events.is_stuck:
            await asyncio.sleep(_PAUSE)
            return
        now = asyncio.get_running_loop().time
        until = now() + _PAUSE
        with suppress(BackendError):  # the next reading says so
            while now() < until:
                report = await self._events.wait()
                if report is not None and self._health.note(report, now=self._clock()):
                    _log.warning("gpu reported gpu=%s kind=%s data=%d", report.gpu, report.kind.name, report.data)
                    return

    async def limit(self, gpu: GpuUuid, control_group: str, size: int) -> None:
        """Lets a control group (a path below version 2's root) hold up to `size` bytes of a GPU.

        Raises:
            BackendError: the driver refuses, or does not answer.
        """
        index = next((index for index, device in enumerate(self._devices) if device.uuid == gpu), None)
        if index is None:
            raise BackendError(f"NVML does not list {gpu}.")
        try:
            await self._workers[index].run(lambda: self._devices[index].limit(control_group, size))
        except pynvml.NVMLError as error:
            raise BackendError(f"NVML sets no limit on {gpu}: {_said(error)}.") from error

    async def close(self) -> None:
        """Shuts NVML down unless it hangs."""
        try:
            await self._detach()
        except BackendError as error:
            _log.warning("nvml left as it is error=%s", error)
        self._events.stop()
        for worker in (self._library, *self._workers):
            worker.stop()

    async def _attach(self) -> None:
        """Initialises NVML where that has to be done, and looks whether it still answers."""
        if self._events.is_stuck:
            raise BackendError("NVML does not answer: a call that waits for health events has not returned.")
        try:
            if not self._is_attached:
                await self._library.run(pynvml.nvmlInit)
                self._is_attached = True
            if self._devices:
                await self._library.run(pynvml.nvmlDeviceGetCount)
            else:  # attached just now; or it hung then, and has not been asked for its GPUs yet
                await self._begin()
        except pynvml.NVMLError as error:
            await self._detach()
            self._health.forget_all()
            raise BackendError(f"NVML does not answer: {_said(error)}.") from error

    async def _begin(self) -> None:
        count = await self._library.run(pynvml.nvmlDeviceGetCount)
        self._devices = [Device(index, count=count, proc=self._proc) for index in range(count)]
        self._workers += [Worker(f"nvml-{index}", limit=self._limit) for index in range(len(self._workers), count)]
        await self._events.open(count)

    async def _detach(self) -> None:
        """Shuts NVML down. Not while a call has not returned: the library must not go away below it."""
        if not self._is_attached:
            return
        if any(worker.is_stuck for worker in (self._library, *self._workers)):
            raise BackendError("NVML does not answer: a call has not returned.")
        await self._events.close()
        self._is_attached = False
        self._devices = []
        with suppress(pynvml.NVMLError):  # a driver that is gone has nothing to be given back
            await self._library.run(pynvml.nvmlShutdown)

    async def _ask(self, index: int) -> Answer | Failure:
        try:
            return await self._workers[index].run(self._devices[index].read)
        except pynvml.NVMLError as error:
            _log.warning("gpu cannot be read index=%d error=%s", index, error)
            certain = isinstance(error, pynvml.NVMLError_GpuIsLost)
            return Failure(index=index, why=_said(error), certain=certain)
        except BackendError as error:
            return Failure(index=index, why=_said(error), certain=True)

    def _plan(self) -> None:
        """Plans to start the library anew while a GPU is lost: only so one that was reset or replaced is found."""
        if not self._picture.has_lost:
            self._anew_at, self._anew_after = None, _LEAST_BEFORE_ANEW
        elif self._anew_at is None and not any(worker.is_stuck for worker in self._workers):
            self._anew_at = self._clock() + self._anew_after
            self._anew_after = min(2 * self._anew_after, _MOST_BEFORE_ANEW)


def _said(error: Exception) -> str:
    """The error's words as part of a sentence."""
    words = str(error).rstrip(".")
    if isinstance(error, pynvml.NVMLError_LibRmVersionMismatch):
        return f"{words}; restart the agent, which has the former driver's library loaded"
    return words
