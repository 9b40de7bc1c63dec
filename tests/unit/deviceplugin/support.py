"""The engine's shell on a node of one GPU, and the pod that asks for all of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.transitions import PodsListed
from arbiter.units import GIB
from arbiter.workload import MemoryPressure
from arbiter_deviceplugin.admission import Identified
from arbiter_deviceplugin.allocations import Allocation, Allocations
from arbiter_deviceplugin.backends import Reading
from arbiter_deviceplugin.carrier import Carrier
from arbiter_deviceplugin.clock import Clock
from arbiter_deviceplugin.disk import Disk
from arbiter_deviceplugin.enforcement import Enforcer
from arbiter_deviceplugin.inventory import Inventory
from arbiter_deviceplugin.selection import Selection
from arbiter_deviceplugin.slices import SliceId
from arbiter_kube.api.annotations import TargetGrant
from arbiter_kube.api.pods import GpuPod
from tests.unit.deviceplugin.builders import GPU, Scripted
from tests.unit.extender.builders import a_pod


def decided(quality: str, vram: int, *, revision: int) -> GpuPod:
    """The pod with this target; `vram` in bytes."""
    pod = a_pod("chat").bound("n1", "a").pod
    pressure = MemoryPressure.HIGH
    return replace(
        pod, grant=TargetGrant(quality=quality, vram=vram, revision=revision, pressure=pressure, mode="Adaptive")
    )


CHAT = decided("1.000", 10 * GIB, revision=1)


class Bench:
    """A carrier with the pods that the API server has."""

    def __init__(self, root: Path, disk: Disk, inventory: Inventory) -> None:
        self.exists: dict[PodUid, GpuPod] = {CHAT.uid: CHAT}
        self.allocations = Allocations()
        self.changed = asyncio.Event()
        self.inventory = inventory
        self.enforcer = Enforcer(Scripted(), inventory)
        self.carrier = Carrier(
            disk=disk,
            allocations=self.allocations,
            run_dir=root / "run",
            inventory=inventory,
            enforcer=self.enforcer,
            clock=Clock(),
            policy=Policy(),
            names={},
            start_wait=25.0,
            latest=self.exists.get,
            changed=self.changed.set,
        )

    def identified(self) -> Identified:
        """The pod, as the kubelet has it started in slices of the GPU."""
        slices = tuple(SliceId(f"a::{number}") for number in range(4))
        allocation = Allocation(directory="d1", slices=slices, gpus=(GpuUuid("a"),), at=0.0, uid=CHAT.uid)
        self.allocations.add(allocation)
        return Identified(CHAT, allocation)

    def delete(self) -> None:
        """The API server has no such pod any more."""
        del self.exists[CHAT.uid]


READING = Reading(gpus=(replace(GPU, uuid=GpuUuid("a")),))


async def inventory(*readings: Reading) -> Inventory:
    """The GPU as it was read for the first time; these are the readings to come."""
    known = Inventory(Scripted(READING, *readings), Selection())
    await known.refresh()
    await known.change()
    return known


@asynccontextmanager
async def running(root: Path, *readings: Reading) -> AsyncIterator[Bench]:
    """A carrier at work; its GPU is read so after the first time."""
    bench = Bench(root, Disk(root / "state"), await inventory(*readings))
    task = asyncio.create_task(bench.carrier.run())
    await bench.carrier.tell(PodsListed(frozenset({CHAT.uid})))
    try:
        yield bench
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
