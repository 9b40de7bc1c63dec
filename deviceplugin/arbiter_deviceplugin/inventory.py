"""The node's GPUs as they were last read, kept fresh, and what becomes of them while they cannot be read."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from arbiter.ids import GpuUuid
from arbiter_deviceplugin.backends import Backend, BackendError, Gpu, Reading
from arbiter_deviceplugin.selection import Selection
from arbiter_kube.client.backoff import Backoff

_log = logging.getLogger(__name__)

_PATIENCE = 3
"""Failed readings in a row, before the GPUs count as not healthy: one transient error must not stop a node."""


class Inventory:
    """The last reading, as far as it is selected. Keep `run()` going."""

    def __init__(self, backend: Backend, selection: Selection) -> None:
        self._backend = backend
        self._selection = selection
        self._changed = asyncio.Event()
        self._failures = 0
        self._last_good: Reading | None = None
        self.reading = Reading()
        self.trouble = ""
        """Why the last reading failed, in one sentence; empty where it did not."""

    async def first(self, *, failed: Callable[[], None]) -> None:
        """Waits until the GPUs can be read at all: at boot the driver may come after us. Each failure is told."""
        backoff = Backoff(first=0.5, ceiling=10.0)
        while await self.refresh() is None:
            failed()
            await asyncio.sleep(backoff.next())

    async def run(self) -> None:
        """Reads again and again until it is cancelled."""
        while True:
            await self._backend.idle()
            await self.refresh()

    async def change(self) -> None:
        """Returns when a reading differs from the one before; for one listener."""
        await self._changed.wait()
        self._changed.clear()

    async def refresh(self) -> Reading | None:
        """Reads now; None where that fails."""
        try:
            reading = self._selection.of(await self._backend.read())
        except BackendError as error:
            self._note_failure(error)
            return None
        self._failures, self.trouble = 0, ""
        self._last_good = reading
        self._replace(reading)
        return reading

    def usable(self) -> dict[GpuUuid, int]:
        """Usable bytes of every GPU."""
        return {gpu.uuid: gpu.usable for gpu in self.reading.gpus}

    def totals(self, gpus: Iterable[GpuUuid]) -> dict[GpuUuid, int]:
        """Bytes of the whole device for each of these GPUs; 0 where it is not there."""
        totals = {gpu.uuid: gpu.total for gpu in self.reading.gpus}
        return {gpu: totals.get(gpu, 0) for gpu in gpus}

    def _note_failure(self, error: BackendError) -> None:
        self._failures += 1
        self.trouble = str(error)
        _log.warning("gpus cannot be read failures=%d error=%s", self._failures, error)
        if self._failures >= _PATIENCE and self._last_good is not None:
            self._replace(unreadable(self._last_good, str(error)))

    def _replace(self, reading: Reading) -> None:
        if reading != self.reading:
            self.reading = reading
            self._changed.set()


def unreadable(reading: Reading, why: str) -> Reading:
    """The same GPUs, none of them healthy; what containers use stays as it was last seen."""
    return replace(reading, gpus=tuple(_unhealthy(gpu, why) for gpu in reading.gpus))


def _unhealthy(gpu: Gpu, why: str) -> Gpu:
    return replace(gpu, used=None, healthy=False, reason=gpu.reason or why)
