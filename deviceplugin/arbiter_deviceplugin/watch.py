"""Looks at the node's processes again and again, and tells the engine which starts and pods have ended by what it saw.

Thin I/O around `lifetimes`. Imports the engine's shell, the pods and the enforcer, which learns control groups here.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from arbiter_deviceplugin.carrier import Carrier
from arbiter_deviceplugin.clock import Clock
from arbiter_deviceplugin.enforcement import Enforcer
from arbiter_deviceplugin.kubelet import Kubelet
from arbiter_deviceplugin.lifetimes import Lifetimes, control_groups
from arbiter_deviceplugin.pods import NodePods
from arbiter_deviceplugin.processes import look
from arbiter_kube.client.backoff import Backoff

_log = logging.getLogger(__name__)

NO_PROCESSES = "--proc-dir does not show the kubelet's process, so no memory is freed; give the pod hostPID: true"

_EAGER_LOOK, _CALM_LOOK = 0.2, 2.0
"""Seconds between two looks: while somebody's bytes wait for it, and else."""

_EAGER_LOOKS = 300
"""In a row, about a minute: a process that outlives its pod for longer hangs, and may do so for days."""


class ProcessWatch:
    """Keep `run()` going once the node's pods are listed (until then every pod looks gone), and `wake()` it for news.

    `proc` shows the host's processes; `looked` is called after each look.
    """

    def __init__(
        self,
        *,
        kubelet: Kubelet,
        proc: Path,
        pods: NodePods,
        carrier: Carrier,
        enforcer: Enforcer,
        clock: Clock,
        looked: Callable[[], None],
    ) -> None:
        self._kubelet = kubelet
        self._proc = proc
        self._pods = pods
        self._carrier = carrier
        self._enforcer = enforcer
        self._clock = clock
        self._looked = looked
        self._lifetimes = Lifetimes()
        self._news = asyncio.Event()
        self.sees_processes = False
        """Whether the kubelet's own process is among those that are seen: without it every container looks ended."""

    @property
    def is_awaiting(self) -> bool:
        """Whether a container has just been let go whose limit waits for its first process."""
        return self._enforcer.is_awaiting(self._clock.now())

    def wake(self) -> None:
        """Something may have ended, or begun."""
        self._news.set()

    async def run(self) -> None:
        """Looks until it is cancelled."""
        await self._see_kubelet()
        waited = 0
        while True:
            self._news.clear()
            await self.look()
            waited = waited + 1 if self._lifetimes.is_waiting else 0
            is_urgent = self.is_awaiting or 0 < waited <= _EAGER_LOOKS
            await asyncio.sleep(_EAGER_LOOK)
            if not is_urgent:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CALM_LOOK - _EAGER_LOOK):
                        await self._news.wait()

    async def look(self) -> None:
        """Looks once, and returns when the engine has acted upon it."""
        # Starts and pods first: a process that is seen, or a container that is reported, of a later start than the one
        # that is known would be taken for that start's own.
        released, pods = self._carrier.released(), self._pods.by_uid()
        alive = await asyncio.to_thread(look, self._proc)
        for uid, start in released.items():
            pod = pods.get(uid)
            if pod is None:
                continue
            self._lifetimes.note_running(uid, start, pod, alive)
            exited = self._lifetimes.exited(uid, start, pod, alive)
            if exited is not None:
                _log.info("container exited pod=%s start=%d", pod.key, start.number)
                await self._carrier.tell(exited)
        await self._enforcer.see(control_groups(released, pods, alive))
        for ended in self._lifetimes.ended(self._carrier.statuses(), pods, alive):
            await self._carrier.tell(ended)
        self._looked()

    async def _see_kubelet(self) -> None:
        """Bytes of what has ended stay held until then, which is told at once and in the readiness probe."""
        backoff = Backoff(first=0.2, ceiling=30.0)
        while True:
            if await asyncio.to_thread(self._sees_kubelet):
                self.sees_processes = True
                return
            await asyncio.sleep(backoff.next())

    def _sees_kubelet(self) -> bool:
        process = self._kubelet.process()
        if process is None:
            return False
        is_shown = process > 0 and (self._proc / str(process) / "cgroup").exists()
        if not is_shown:
            _log.error("%s", NO_PROCESSES)
        return is_shown
