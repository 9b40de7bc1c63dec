"""The simulated GPUs, what happens while GPUs cannot be read, and the list that the kubelet is shown."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from arbiter.ids import GpuUuid
from arbiter.units import GIB
from arbiter_deviceplugin.backends import BackendError, Gpu, Reading
from arbiter_deviceplugin.backends.simulated import SimulatedBackend
from arbiter_deviceplugin.inventory import Inventory
from arbiter_deviceplugin.offer import Offer
from arbiter_deviceplugin.selection import Selection
from arbiter_deviceplugin.slices import Slice, SliceId
from tests.unit.deviceplugin.builders import GPU, Scripted

FILE = """
gpus:
- {uuid: GPU-b, index: 1, name: SIM-24G, total: 25769803776, healthy: false, reason: XID 79}
- {uuid: GPU-a, index: 0, total: 12884901888, reserved: 1073741824, used: 5}
use:
- {pod: team/chat, vram: 7}
"""


async def test_simulated_gpus_are_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "gpus.yaml"
    path.write_text(FILE)
    use = {"team/chat": 7}

    assert await SimulatedBackend(path).read() == Reading(
        gpus=(
            Gpu(uuid=GpuUuid("GPU-a"), index=0, name="SIM", total=12 * GIB, reserved=GIB, used=5, use=use),
            Gpu(
                uuid=GpuUuid("GPU-b"),
                index=1,
                name="SIM-24G",
                total=24 * GIB,
                reserved=0,
                used=0,
                healthy=False,
                reason="XID 79",
                use=use,
            ),
        ),
    )


@pytest.mark.parametrize(
    ("use", "measured"),
    [
        pytest.param("use: [{pod: team/chat, vram: 7}]", 7, id="what is written"),
        pytest.param("use: [{pod: team/posters, vram: 7}]", 0, id="nothing where others only are named"),
        pytest.param("use: []", 0, id="nothing where nobody uses any"),
        pytest.param("", None, id="unknown where the file does not tell use"),
    ],
)
async def test_what_a_pod_uses_by_the_file_is(tmp_path: Path, use: str, measured: int | None) -> None:
    path = tmp_path / "gpus.yaml"
    path.write_text(f"gpus: [{{uuid: GPU-a, index: 0, total: 1}}]\n{use}\n")

    assert (await SimulatedBackend(path).read()).use_of(("team/chat",), (GpuUuid("GPU-a"),)) == measured


async def test_the_file_is_read_again_when_it_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gpus.yaml"
    path.write_text(FILE)
    backend = SimulatedBackend(path)
    before = await backend.read()
    (tmp_path / "new").write_text(FILE.replace("vram: 7", "vram: 8"))
    (tmp_path / "new").replace(path)

    after = await backend.read()
    assert [reading.gpus[0].use for reading in (before, after)] == [{"team/chat": 7}, {"team/chat": 8}]


def test_the_use_of_several_gpus_is_that_of_the_most_used_and_unknown_where_one_cannot_tell() -> None:
    a, b, c = (
        replace(GPU, uuid=GpuUuid(name), use=use) for name, use in (("a", {"x": 3}), ("b", {"x": 5}), ("c", None))
    )
    reading = Reading(gpus=(a, b, c))

    assert reading.use_of(("x",), (a.uuid, b.uuid)) == 5
    assert reading.use_of(("other", "x"), (a.uuid,)) == 3
    assert reading.use_of(("x",), (a.uuid, c.uuid)) is None
    assert reading.use_of(("x",), (a.uuid, GpuUuid("not there"))) is None
    assert reading.use_of(("x",), ()) is None


@pytest.mark.parametrize(
    "text",
    ["", "gpus: 3", "gpus: [{uuid: a}]", "gpus: [", "gpus: []\nmore: 1", "gpus: [{uuid: a, index: 0, total: 0}]"],
)
async def test_a_file_that_makes_no_sense_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gpus.yaml"
    path.write_text(text)

    with pytest.raises(BackendError, match=rf"^simulated GPUs cannot be read from {path}: [^\n]+\.$"):
        await SimulatedBackend(path).read()


@pytest.mark.parametrize(
    ("gpus", "sentence"),
    [
        pytest.param(
            "[{uuid: a, index: 0, total: 1}, {uuid: a, index: 1, total: 1}]",
            "2 GPUs have the uuid a; give each its own",
            id="a uuid",
        ),
        pytest.param(
            "[{uuid: a, index: 0, total: 1}, {uuid: b, index: 0, total: 1}]",
            "2 GPUs have the index 0; give each its own",
            id="an index",
        ),
    ],
)
async def test_two_gpus_of_one_name_are_an_error_and_nothing_is_lost(tmp_path: Path, gpus: str, sentence: str) -> None:
    path = tmp_path / "gpus.yaml"
    path.write_text(FILE)
    inventory = Inventory(SimulatedBackend(path), Selection())
    good = await inventory.refresh()
    path.write_text(f"gpus: {gpus}\n")

    assert await inventory.refresh() is None

    assert inventory.trouble == f"simulated GPUs cannot be read from {path}: {sentence}."
    assert inventory.reading == good


async def test_a_gpu_that_the_file_lists_no_more_is_lost_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "gpus.yaml"
    path.write_text(FILE)
    backend = SimulatedBackend(path)
    both = await backend.read()
    path.write_text("gpus: [{uuid: GPU-b, index: 1, total: 25769803776}]\n")

    one = await backend.read()
    path.write_text(FILE)

    assert one.unread == {"GPU-a"}
    assert one.gpus[0] == replace(both.gpus[0], used=None, healthy=False, reason="it is not listed any more.")
    assert await backend.read() == both


async def test_gpus_count_as_failed_after_three_readings_that_failed_in_a_row() -> None:
    good = Reading(gpus=(replace(GPU, use={"team/chat": 7}),))
    inventory = Inventory(Scripted(good, None, None, good, None, None, None, good), Selection())
    seen = []
    for _ in range(8):
        await inventory.refresh()
        seen.append([(gpu.healthy, gpu.reason) for gpu in inventory.reading.gpus])
        assert [gpu.use for gpu in inventory.reading.gpus] == [{"team/chat": 7}]

    assert seen == [[(True, None)]] * 6 + [[(False, "driver away.")], [(True, None)]]


def slices(*healthy: bool) -> tuple[Slice, ...]:
    return tuple(Slice(SliceId(f"a::{number}"), healthy=state) for number, state in enumerate(healthy))


async def test_a_list_is_told_at_once_and_then_only_when_it_changes() -> None:
    offer = Offer()
    offer.publish(slices(True))
    changes = offer.changes()
    first = await anext(changes)
    following = asyncio.ensure_future(anext(changes))

    offer.publish(slices(True))
    await asyncio.sleep(0)
    assert not following.done()
    offer.publish(slices(False))

    assert (first, await following) == (slices(True), slices(False))
    await changes.aclose()
    assert not offer.is_watched


async def test_a_newer_listener_ends_the_one_before_it() -> None:
    offer = Offer()
    old, new = offer.changes(), offer.changes()
    await anext(old)
    waiting = asyncio.ensure_future(anext(old, None))
    await asyncio.sleep(0)

    await anext(new)

    assert await waiting is None
    assert offer.is_watched
    await new.aclose()
