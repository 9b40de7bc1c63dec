"""What GpuNode says of the node."""

from contextlib import suppress

import pytest

from arbiter.units import GIB
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api.gpunode import GpuNodeSummary
from arbiter_kube.api.objects import PartialObject
from arbiter_kube.api.resources import GPU_NODES, NODES, Resource
from arbiter_kube.client import NotFound
from tests.component.deviceplugin.support import Site, eventually, gpu
from tests.unit.extender.builders import a_pod


async def _conditions(site: Site) -> dict[str, tuple[str, str]]:
    status = await site.status()
    return {c.type: (c.status, c.message) for c in status.conditions} if status else {}


GPU_NODE_METADATA = Resource(
    model=PartialObject,
    group=GPU_NODES.group,
    version=GPU_NODES.version,
    plural=GPU_NODES.plural,
    kind=GPU_NODES.kind,
    namespaced=False,
)


async def test_the_agent_makes_its_own_gpunode_which_lives_as_long_as_the_node(site: Site) -> None:
    await eventually(site.status, "GpuNode")

    node = await site.client.get(NODES, site.node)
    made = await site.client.get(GPU_NODE_METADATA, site.node)
    (owner,) = made.metadata.owner_references
    assert (owner.api_version, owner.kind, owner.name, owner.uid) == ("v1", "Node", site.node, node.metadata.uid)


async def test_the_summary_is_what_people_read(site: Site) -> None:
    site.place.write_gpus(gpu(0, used=11520 << 20), gpu(1, healthy=False, reason="XID 79"))
    await site.run(a_pod("chat").sizes(full="10Gi", floor="4Gi"))

    async def is_so() -> bool:
        status = await site.status()
        return status is not None and status.summary == GpuNodeSummary(
            gpus=2, usable="24Gi", floors="4Gi", granted="10Gi", used="11520Mi", healthy="1/2", enforcement="none"
        )

    await eventually(is_so, "summary")


async def test_measured_use_alone_is_not_written_at_once_and_never_in_small_steps(site: Site) -> None:
    await eventually(site.status, "GpuNode")
    before = await site.client.get(GPU_NODES, site.node)
    for used in (100 << 20, 200 << 20, 255 << 20):
        site.place.write_gpus(gpu(0, used=used), gpu(1))
    site.place.write_gpus(gpu(0, used=255 << 20), gpu(1, healthy=False))

    async def is_told() -> bool:
        status = await site.status()
        return status is not None and not status.gpus[1].healthy

    await eventually(is_told, "health in GpuNode")
    status = await site.status()
    assert status is not None
    assert status.gpus[0].used == 0
    assert before.metadata.uid == (await site.client.get(GPU_NODES, site.node)).metadata.uid


async def test_where_others_offer_the_same_gpus_nothing_is_offered_and_the_condition_says_who(site: Site) -> None:
    offered = {"nvidia.com/gpu": "2", VRAM_RESOURCE: "24"}
    await site.client.patch(
        NODES, site.node, {"status": {"allocatable": offered, "capacity": offered}}, subresource="status"
    )

    await eventually(lambda: site.kubelet.healthy == set(), "offer withdrawn")

    async def conflict() -> str | None:
        status = await site.status()
        found = [c for c in status.conditions if c.type == "Conflict" and c.status == "True"] if status else []
        return found[0].message if found else None

    assert await eventually(conflict, "condition") == (
        "others offer the same GPUs: nvidia.com/gpu; remove their device plugin, or name our GPUs by --devices."
    )
    assert len(site.kubelet.devices) == 24


@pytest.mark.parametrize("flags", [("--devices", "1", "--vram-budget", "50%")])
async def test_gpus_that_were_said_to_be_ours_are_offered_whatever_others_offer(site: Site) -> None:
    offered = {"nvidia.com/gpu": "1"}
    await site.client.patch(
        NODES, site.node, {"status": {"allocatable": offered, "capacity": offered}}, subresource="status"
    )

    async def is_said() -> bool:
        said = await _conditions(site)
        return said.get("Conflict") == (
            "False",
            "others offer GPUs too (nvidia.com/gpu), and --devices names those of ours.",
        )

    await eventually(is_said, "condition")
    said = await _conditions(site)
    assert said["Ready"] == ("True", "1 GPU is offered to containers; GPU 0 (GPU-0) is not among --devices.")
    assert site.kubelet.healthy == {f"GPU-1::{number}" for number in range(6)}
    status = await site.status()
    assert status is not None
    assert [(gpu.uuid, gpu.usable) for gpu in status.gpus] == [("GPU-1", 6 * GIB)]


async def test_slices_that_are_held_stay_when_their_gpu_is_selected_no_more(site: Site) -> None:
    running = await site.run(a_pod("chat"), gpus=("GPU-0",))
    assert site.agent.stop() == 0
    site.agent.start("--devices", "GPU-1")
    await site.agent.ready()
    await eventually(lambda: site.kubelet.healthy, "offered slices")

    assert site.kubelet.healthy == {f"GPU-1::{number}" for number in range(12)}
    assert site.kubelet.devices.keys() - site.kubelet.healthy == set(running.container.ids)
    assert running.engine.target["vramBytes"] == 10 * GIB


async def test_a_driver_that_is_absent_at_the_start_is_told_and_waited_for(site: Site) -> None:
    await eventually(site.status, "GpuNode")
    assert site.agent.stop() == 0
    away = site.place.gpus.rename(site.place.gpus.with_suffix(".away"))
    site.agent.start()
    why = (
        f"simulated GPUs cannot be read from {site.place.gpus}: "
        f"[Errno 2] No such file or directory: '{site.place.gpus}'."
    )

    async def is_said() -> bool:
        said = await _conditions(site)
        return said.get("Ready") == ("False", f"no VRAM is offered, because no GPU can be read: {why}")

    await eventually(is_said, "condition")
    assert not site.kubelet.healthy
    away.rename(site.place.gpus)

    await site.agent.ready()
    await eventually(lambda: len(site.kubelet.healthy) == 24, "offered slices")

    async def is_well() -> bool:
        said = await _conditions(site)
        return said.get("Ready") == ("True", "2 GPUs are offered to containers.")

    await eventually(is_well, "condition")


async def test_another_unit_waits_until_no_slices_are_held(site: Site) -> None:
    await site.run(a_pod("chat"))
    assert site.agent.stop() == 0
    site.agent.start("--vram-unit", "2Gi")
    await site.agent.ready()

    async def mismatch() -> str | None:
        status = await site.status()
        found = [c for c in status.conditions if c.type == "UnitMismatch" and c.status == "True"] if status else []
        return found[0].message if found else None

    assert await eventually(mismatch, "condition") == (
        "slices of 1Gi are held, so 2Gi is not used yet; drain the node and restart its agent."
    )
    assert len(site.kubelet.devices) == 24


async def test_a_gpunode_that_somebody_deletes_is_made_again(site: Site) -> None:
    await eventually(site.status, "GpuNode")
    await site.client.delete(GPU_NODES, site.node)

    site.place.write_gpus(gpu(0, total=13 * GIB), gpu(1))

    async def is_there() -> bool:
        status = await site.status()
        return status is not None and status.gpus[:1] != [] and status.gpus[0].total == 13 * GIB

    await eventually(is_there, "new GpuNode with a status")


async def test_the_gpunode_of_a_former_node_of_its_name_is_left_to_be_deleted(site: Site) -> None:
    node = await site.client.get(NODES, site.node)
    await eventually(site.status, "GpuNode")
    assert site.agent.stop() == 0
    await site.client.delete(GPU_NODES, site.node)
    former = {"apiVersion": "v1", "kind": "Node", "name": site.node, "uid": "6c0ffee0-0000-4000-8000-000000000000"}
    metadata = {"name": site.node, "ownerReferences": [former], "finalizers": ["test.example.com/later"]}
    await site.client.create(GPU_NODES, {"metadata": metadata})

    site.agent.start()
    await eventually(lambda: "GpuNode of a former node" in site.agent.log, "warning")
    assert await site.status() is None
    await site.client.patch(GPU_NODES, site.node, {"metadata": {"finalizers": None}})
    with suppress(NotFound):  # whoever collects garbage may have been here
        await site.client.delete(GPU_NODES, site.node)

    await eventually(site.status, "GpuNode of its own")
    made = await site.client.get(GPU_NODE_METADATA, site.node)
    assert [owner.uid for owner in made.metadata.owner_references] == [node.metadata.uid]


async def test_conditions_say_what_to_expect_of_a_node_that_is_well(site: Site) -> None:
    async def conditions() -> dict[str, tuple[str, str]] | None:
        status = await site.status()
        return {c.type: (c.status, c.reason) for c in status.conditions} if status and status.conditions else None

    assert await eventually(conditions, "conditions") == {
        "Ready": ("True", "Serving"),
        "Conflict": ("False", "OneOwner"),
        "UnitMismatch": ("False", "InForce"),
        "Overcommitted": ("False", "WithinUsable"),
        "MeasuredAboveGrant": ("Unknown", "NotMeasured"),
    }
