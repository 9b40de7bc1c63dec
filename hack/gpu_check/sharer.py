"""One of the processes that share a GPU, as its owner sees it: start, hold so much, end."""

import asyncio
import os
import sys
import uuid
from asyncio.subprocess import PIPE

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, PodUid
from hack.gpu_check.processes import View

_ANSWER = 60.0


class SharingError(Exception):
    """The sharing cannot go on; the text says why in one sentence."""


class Sharer:
    """A process with memory of the GPU; `overhead` is what its context takes before it holds anything."""

    def __init__(self, name: str, demand: Demand) -> None:
        self.name = name
        self.demand = demand
        self.uid = PodUid(str(uuid.uuid4()))
        self.overhead = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, gpu: GpuUuid, view: View) -> None:
        """Starts it on the GPU; it has its context then.

        Raises:
            SharingError: CUDA refuses.
        """
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hack.gpu_check.holder"), stdin=PIPE, stdout=PIPE, env=environment
        )
        view.claim(self._process.pid, self.uid)
        await self._answer(self._process)

    async def hold(self, size: int) -> None:
        """Lets it hold `size` bytes, its context's among them.

        Raises:
            SharingError: the memory is not there.
        """
        process = self._process
        if process is None or process.stdin is None:
            raise SharingError(f"{self.name} does not run.")
        process.stdin.write(f"hold {max(0, size - self.overhead)}\n".encode())
        await self._answer(process)

    async def end(self) -> None:
        """Ends it; its memory is free then."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            await process.wait()

    async def _answer(self, process: asyncio.subprocess.Process) -> None:
        async with asyncio.timeout(_ANSWER):
            line = (await process.stdout.readline()).decode().strip() if process.stdout else ""
        if not line or line.startswith("failed"):
            raise SharingError(f"{self.name}: {line.removeprefix('failed ') or 'its process has ended'}.")
