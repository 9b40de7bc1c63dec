"""The directories of several containers, while some of them end."""

import asyncio
import shutil
from pathlib import Path

from arbiter.ids import PodUid
from arbiter_deviceplugin.allocations import Allocation
from arbiter_deviceplugin.directories import Directories
from arbiter_deviceplugin.directory import Applied


def allocation(name: str) -> Allocation:
    return Allocation(directory=name, slices=(), gpus=(), at=0.0, uid=PodUid(name))


async def acknowledge(_uid: PodUid, _applied: Applied) -> None:
    """Nobody asks."""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_one_whose_container_ends_while_others_are_made_again_stays_removed(tmp_path: Path) -> None:
    directories, one, other = Directories(tmp_path, acknowledge=acknowledge), allocation("one"), allocation("other")
    await directories.open(one)
    await directories.open(other)
    shutil.rmtree(tmp_path / "one")
    opening = asyncio.create_task(directories.open_all())
    await asyncio.sleep(0)  # it makes the first one

    await directories.remove(other)
    await opening
    made = names(tmp_path)

    await directories.close()
    assert made == ["one"]
