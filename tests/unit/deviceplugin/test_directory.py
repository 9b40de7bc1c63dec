"""A container's directory while several of the agent's tasks write to it."""

import asyncio
import json
from pathlib import Path

import pytest

from arbiter_deviceplugin.directory import CLOSING_SECONDS, SOCKET_FILE, Applied, ContainerDirectory
from arbiter_deviceplugin.target import TARGET_FILE, Told


def told(revision: int) -> Told:
    document = json.dumps({"revision": revision}).encode()
    return Told(revision=revision, document=document, files={"quality": b"1.000\n", TARGET_FILE: document})


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def acknowledge(_: Applied) -> None:
    """Nobody asks."""


async def test_users_of_the_host_reach_no_container_s_socket(tmp_path: Path) -> None:
    directory = ContainerDirectory(tmp_path / "containers" / "chat", acknowledge=acknowledge)
    await directory.open()
    try:
        assert [path.stat().st_mode & 0o777 for path in (directory.path.parent, directory.path)] == [0o700, 0o755]
        assert (directory.path / SOCKET_FILE).stat().st_mode & 0o777 == 0o666
    finally:
        await directory.remove()


async def test_of_targets_told_at_the_same_time_the_last_one_stays(tmp_path: Path) -> None:
    directory = ContainerDirectory(tmp_path / "chat", acknowledge=acknowledge)

    for first in range(0, 400, 8):
        await asyncio.gather(*(directory.tell(told(revision)) for revision in range(first, first + 8)))

        assert (directory.path / TARGET_FILE).read_bytes() == told(first + 7).document
    assert names(directory.path) == ["bin", "quality", TARGET_FILE]


@pytest.mark.parametrize("is_gone", [True, False], ids=["whose container has ended", "that somebody waits at"])
async def test_an_open_question_does_not_hold_up_the_end_of_a_directory(tmp_path: Path, *, is_gone: bool) -> None:
    directory = ContainerDirectory(tmp_path / "chat", acknowledge=acknowledge)
    await directory.open()
    _, writer = await asyncio.open_unix_connection(str(directory.path / SOCKET_FILE))
    writer.write(b"GET /v1/quality?after=9&timeout=60s HTTP/1.1\r\nHost: agent\r\n\r\n")
    await asyncio.sleep(0.1)
    if is_gone:
        writer.close()

    async with asyncio.timeout(CLOSING_SECONDS):
        await directory.remove()

    writer.close()


async def test_an_agent_that_is_told_to_end_stops_in_the_middle_of_closing_a_directory(tmp_path: Path) -> None:
    directory = ContainerDirectory(tmp_path / "chat", acknowledge=acknowledge)
    await directory.open()
    closing = asyncio.create_task(directory.close())
    await asyncio.sleep(0)  # it waits for the listener to end

    closing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await closing
    await directory.remove()


async def test_a_directory_is_removed_with_the_mount_points_that_a_runtime_made_in_it(tmp_path: Path) -> None:
    directory = ContainerDirectory(tmp_path / "chat", acknowledge=acknowledge)
    await directory.open()
    (directory.path / "models" / "cache").mkdir(parents=True)
    (directory.path / "link").symlink_to(tmp_path)

    await directory.remove()
    await directory.remove()

    assert names(tmp_path) == []
