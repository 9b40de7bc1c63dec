"""A large node on which nothing happens (`make soak`): what the agent takes of its host."""

import asyncio

import pytest

from arbiter.units import GIB, MIB
from tests.component.deviceplugin.support import Site, eventually, gpu

GPUS, SLICES = 8, 80
SECONDS = 60.0


# The host's own processes, since walking through them is what an idle agent does.
@pytest.mark.parametrize("flags", [("--proc-dir", "/proc")])
@pytest.mark.timeout(300)
async def test_an_idle_agent_of_eight_gpus_takes_little(site: Site) -> None:
    site.place.write_gpus(*(gpu(number, size=SLICES * GIB) for number in range(GPUS)), use={})
    await eventually(lambda: len(site.kubelet.healthy) == GPUS * SLICES, "larger GPUs")
    await asyncio.sleep(5)  # what a start has to do is over

    before = site.agent.footprint()
    await asyncio.sleep(SECONDS)
    after = site.agent.footprint()

    cpu = (after.cpu - before.cpu) / SECONDS
    print(f"{GPUS} GPUs x {SLICES} slices, idle: {cpu:.2%} of a core, {after.resident // MIB} MiB resident")
    assert cpu < 0.01
    assert after.resident < 120 * MIB
