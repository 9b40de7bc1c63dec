"""Looks at processes while containers end and start anew."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from arbiter.ids import NodeName
from arbiter.transitions import GrantState, PodVanished
from arbiter_deviceplugin import watch as watches
from arbiter_deviceplugin.clock import Clock
from arbiter_deviceplugin.kubelet import Kubelet
from arbiter_deviceplugin.pods import NodePods
from arbiter_deviceplugin.watch import ProcessWatch
from arbiter_kube.api.objects import ObjectMeta
from arbiter_kube.client import KubeClient
from tests.support.patience import PATIENCE
from tests.unit.deviceplugin.builders import reported
from tests.unit.deviceplugin.support import CHAT, Bench, running

A_MOMENT = 0.1

LOCAL_UID = "0" * 32
METADATA = ObjectMeta(
    namespace=CHAT.namespace,
    name=CHAT.name,
    uid=CHAT.uid,
    annotations={"kubernetes.io/config.mirror": LOCAL_UID},
)

FIRST, SECOND, THIRD = "a" * 64, "b" * 64, "c" * 64


class ThisProcess(Kubelet):
    """A kubelet that is played by the test."""

    def process(self) -> int:
        return os.getpid()


class Host:
    """The node's processes and what the kubelet reports of the pod, looked at when it is asked for."""

    def __init__(self, bench: Bench, root: Path) -> None:
        self._bench = bench
        self._cgroup = root / "proc" / "7" / "cgroup"
        self._cgroup.parent.mkdir(parents=True)
        own = root / "proc" / str(os.getpid())
        own.mkdir()
        (own / "cgroup").write_text("0::/\n")
        self._pods = NodePods(cast("KubeClient", None), node=NodeName("n1"), unit=1 << 30)
        self.watch = ProcessWatch(
            kubelet=ThisProcess(root),
            proc=root / "proc",
            pods=self._pods,
            carrier=bench.carrier,
            enforcer=bench.enforcer,
            clock=Clock(),
            looked=self._note_look,
        )
        self.looks = 0
        self._looked = asyncio.Event()

    async def look(self) -> None:
        """Waits for the next one."""
        self._looked.clear()
        await self._looked.wait()

    def _note_look(self) -> None:
        self.looks += 1
        self._looked.set()

    def live(self, container: str) -> None:
        """A process of the container is all that lives of the pod."""
        self._cgroup.write_text(_group(container))

    def report(self, container: str, *, running: bool) -> None:
        """What the API server says of the pod."""
        self._pods.apply(reported(METADATA, container, running=running))

    async def hold_look(self) -> Callable[[str], Awaitable[None]]:
        """Begins a look; it sees a process of the container that what is returned is called with, and ends."""
        self._cgroup.unlink()
        os.mkfifo(self._cgroup)
        looking = asyncio.create_task(self.watch.look())
        stream = await asyncio.to_thread(self._cgroup.open, "w")

        async def let_go(container: str) -> None:
            with stream:
                stream.write(_group(container))
            await looking
            self._cgroup.unlink()

        return let_go

    async def state(self) -> GrantState:
        """After one more look."""
        await self.watch.look()
        (status,) = self._bench.carrier.statuses()
        return status.state


def _group(container: str) -> str:
    return f"0::/kubepods/pod{LOCAL_UID}/{container}\n"


async def test_a_former_container_that_is_seen_after_the_restart_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        host, identified = Host(bench, tmp_path), bench.identified()
        await bench.carrier.start(identified)
        host.live(FIRST)
        host.report(FIRST, running=True)
        assert await host.state() is GrantState.STARTING
        await bench.carrier.start(identified)
        assert await host.state() is GrantState.STARTING

        host.live(SECOND)
        host.report(FIRST, running=False)

        assert await host.state() is GrantState.STARTING


async def test_a_former_container_that_a_look_finds_during_the_restart_is_not_taken_for_the_new_one(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as bench:
        host, identified = Host(bench, tmp_path), bench.identified()
        await bench.carrier.start(identified)
        host.live(FIRST)
        host.report(FIRST, running=True)
        seen = await host.hold_look()
        await bench.carrier.start(identified)
        await seen(FIRST)

        host.live(SECOND)
        host.report(FIRST, running=False)

        assert await host.state() is GrantState.STARTING


async def test_a_container_that_starts_during_a_look_is_known_as_the_newer_starts(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        host, identified = Host(bench, tmp_path), bench.identified()
        await bench.carrier.start(identified)
        host.live(FIRST)
        host.report(FIRST, running=True)
        seen = await host.hold_look()
        await bench.carrier.start(identified)
        host.report(SECOND, running=True)
        await seen(SECOND)
        host.live(SECOND)
        assert await host.state() is GrantState.STARTING

        host.live(THIRD)
        host.report(SECOND, running=False)

        assert await host.state() is GrantState.DOWN


async def test_a_process_that_outlives_its_pod_for_long_is_looked_at_calmly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_EAGER_LOOK": 0.001, "_CALM_LOOK": 3600.0, "_EAGER_LOOKS": 3}.items():
        monkeypatch.setattr(watches, name, value)
    async with running(tmp_path) as bench, asyncio.timeout(PATIENCE):
        host = Host(bench, tmp_path)
        await bench.carrier.start(bench.identified())
        host.live(FIRST)
        host.report(FIRST, running=True)
        await bench.carrier.tell(PodVanished(CHAT.uid))
        watching = asyncio.create_task(host.watch.run())
        while host.looks < 4:
            await host.look()

        await asyncio.sleep(A_MOMENT)
        assert host.looks == 4
        host.watch.wake()
        await host.look()

        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
