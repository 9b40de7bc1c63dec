"""The engine's shell: pods that are deleted while they start, what is remembered of them, and disks that hang."""

import asyncio
import json
import shutil
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from arbiter.ids import GpuUuid, PodUid
from arbiter.transitions import Acknowledged, Ended, PodsListed, PodVanished, Record, Tick
from arbiter.units import GIB
from arbiter_deviceplugin import carrier as carriers
from arbiter_deviceplugin.admission import StartRefusedError
from arbiter_deviceplugin.backends import Reading
from arbiter_deviceplugin.disk import Disk, StateError
from tests.support.patience import PATIENCE
from tests.unit.deviceplugin.support import CHAT, READING, Bench, decided, inventory, running


async def test_a_pod_that_was_deleted_before_its_start_was_known_starts_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        identified = bench.identified()
        bench.delete()
        await bench.carrier.tell(PodVanished(CHAT.uid))

        with pytest.raises(StartRefusedError, match=r"^start held: its pod has been deleted$"):
            await bench.carrier.start(identified)

        assert bench.carrier.statuses() == ()


async def test_a_pod_that_is_deleted_while_it_is_made_known_starts_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        identified = bench.identified()
        bench.changed.clear()
        start = asyncio.create_task(bench.carrier.start(identified))
        await bench.changed.wait()
        bench.delete()

        with pytest.raises(StartRefusedError):
            await start

        assert bench.carrier.statuses() == ()


async def test_a_pod_that_never_started_is_forgotten_with_its_deletion(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        await bench.carrier.observe(CHAT)
        assert bench.carrier.pod(CHAT.uid) == CHAT

        await bench.carrier.tell(PodVanished(CHAT.uid))

        assert bench.carrier.pod(CHAT.uid) is None


def using(use: int) -> Reading:
    return Reading(gpus=(replace(READING.gpus[0], use={CHAT.key: use}),))


async def test_use_of_before_a_gpu_could_not_be_read_any_more_confirms_no_shrink(tmp_path: Path) -> None:
    of_before = replace(using(0), unread=frozenset({GpuUuid("a")}))
    async with running(tmp_path, of_before, using(10 * GIB)) as bench, asyncio.timeout(PATIENCE):
        await bench.carrier.start(bench.identified())
        await bench.carrier.tell(Acknowledged(uid=CHAT.uid, revision=1, vram=10 * GIB))
        await bench.carrier.observe(decided("0.500", 5 * GIB, revision=2))
        await bench.carrier.tell(Acknowledged(uid=CHAT.uid, revision=2, vram=5 * GIB))

        for _ in range(2):
            await bench.inventory.change()
        await bench.carrier.tell(Tick())

        (status,) = bench.carrier.statuses()
        assert (status.granted, status.held) == (5 * GIB, 10 * GIB)


class HangingDisk(Disk):
    """Neither takes a record nor gives one up while it hangs."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.answers = threading.Event()
        self.answers.set()

    def save_record(self, record: Record) -> None:
        assert self.answers.wait(PATIENCE)
        super().save_record(record)

    def delete_record(self, uid: PodUid) -> None:
        assert self.answers.wait(PATIENCE)
        super().delete_record(uid)


@pytest.mark.parametrize(
    ("has_started", "state"),
    [pytest.param(False, "not on the disk", id="begins"), pytest.param(True, "still on the disk", id="ends")],
)
async def test_a_disk_that_hangs_ends_the_agent_rather_than_every_start_when_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_started: bool, state: str
) -> None:
    disk = HangingDisk(tmp_path / "state")
    bench = Bench(tmp_path, disk, await inventory())
    task = asyncio.create_task(bench.carrier.run())
    await bench.carrier.tell(PodsListed(frozenset({CHAT.uid})))
    if has_started:
        await bench.carrier.start(bench.identified())
    monkeypatch.setattr(carriers, "_DISK_LIMIT", 0.05)
    disk.answers.clear()
    next_ = bench.carrier.tell(Ended(CHAT.uid)) if has_started else bench.carrier.start(bench.identified())
    waiting = asyncio.create_task(next_)

    with pytest.raises(StateError, match=rf"^the record of team/chat is {state} after 0\.05 s\.$"):
        await task

    disk.answers.set()
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting


async def test_a_directory_that_cannot_be_removed_is_no_end_of_the_others_and_is_tried_again(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        identified, directory = bench.identified(), tmp_path / "run" / "d1"
        await bench.carrier.start(identified)
        shutil.rmtree(directory)
        directory.write_text("in the way")

        await bench.carrier.tell(Ended(CHAT.uid))
        assert (bench.carrier.statuses(), bench.allocations.of_pod(CHAT.uid)) == ((), identified.allocation)

        directory.unlink()
        await bench.carrier.discard(identified.allocation)
        assert bench.allocations.of_pod(CHAT.uid) is None


async def test_a_container_that_cannot_be_told_is_no_end_of_the_others(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        await bench.carrier.start(bench.identified())
        directory = tmp_path / "run" / "d1"
        (directory / "bin").rmdir()
        (directory / "bin").write_text("in the way")
        smaller = decided("0.500", 5 * GIB, revision=2)
        bench.exists[CHAT.uid] = smaller

        await bench.carrier.observe(smaller)
        await bench.carrier.tell(Acknowledged(uid=CHAT.uid, revision=1, vram=4 * GIB))
        before = (directory / "quality.json").read_text()
        (directory / "bin").unlink()
        await bench.carrier.ensure_directories()

        assert (directory / "quality.json").read_text() != before


async def test_a_container_that_would_read_what_a_former_start_was_told_does_not_start(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        identified, directory = bench.identified(), tmp_path / "run" / "d1"
        await bench.carrier.start(identified)
        bench.exists[CHAT.uid] = decided("0.500", 5 * GIB, revision=2)
        before = (directory / "quality.json").read_text()
        (directory / "bin").rmdir()
        (directory / "bin").write_text("in the way")

        with pytest.raises(StartRefusedError, match=r"^start held: its target cannot be written: Not a directory$"):
            await bench.carrier.start(identified)
        (status,) = bench.carrier.statuses()
        assert (status.granted, (directory / "quality.json").read_text()) == (5 * GIB, before)

        (directory / "bin").unlink()
        await bench.carrier.start(identified)
        assert json.loads((directory / "quality.json").read_text())["vramBytes"] == 5 * GIB
