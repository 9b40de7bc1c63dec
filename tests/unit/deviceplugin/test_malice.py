"""A container that means harm harms itself: its neighbours are served, and the host's files stay."""

import asyncio
import errno
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from arbiter_deviceplugin.directory import SOCKET_FILE, Applied, ContainerDirectory
from arbiter_deviceplugin.target import TARGET_FILE, Told

PROMPTLY = 5.0
A_MOMENT = 0.3


def told(revision: int) -> Told:
    document = json.dumps({"revision": revision}).encode()
    return Told(revision=revision, document=document, files={"quality": b"1.000\n", TARGET_FILE: document})


class Container:
    """Its directory as the host has it, and what it acknowledged."""

    def __init__(self, path: Path) -> None:
        self.applied: list[int] = []
        self.directory = ContainerDirectory(path, acknowledge=self._acknowledge)

    async def _acknowledge(self, applied: Applied) -> None:
        self.applied.append(applied.revision)

    @property
    def path(self) -> Path:
        return self.directory.path

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Tries again where the kernel takes no more, which asyncio does not do by itself."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            for _ in range(1000):
                error = connection.connect_ex(str(self.path / SOCKET_FILE))
                if error != errno.EAGAIN:
                    break
                await asyncio.sleep(0.02)
            assert error == 0
            return await asyncio.open_unix_connection(sock=connection)
        except BaseException:
            connection.close()
            raise

    async def send(self, text: bytes) -> bytes:
        """What is answered until the connection ends."""
        reader, writer = await self.connect()
        try:
            writer.write(text)
            return await reader.read()
        finally:
            writer.close()

    async def ask(self) -> bytes:
        return await self.send(b"GET /v1/quality HTTP/1.1\r\nHost: agent\r\n\r\n")

    async def acknowledge(self, revision: int) -> bytes:
        body = json.dumps({"revision": revision, "quality": 1, "vramBytes": revision}).encode()
        head = f"POST /v1/applied HTTP/1.1\r\nHost: agent\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self.send(head.encode() + body)


@asynccontextmanager
async def containers(root: Path) -> AsyncIterator[tuple[Container, Container]]:
    """A malicious one and its neighbour."""
    both = Container(root / "run" / "malicious"), Container(root / "run" / "neighbour")
    for container in both:
        await container.directory.open()
        await container.directory.tell(told(1))
    yield both
    for container in both:
        await container.directory.remove()


async def is_served(container: Container) -> bool:
    async with asyncio.timeout(PROMPTLY):
        return (await container.ask()).startswith(b"HTTP/1.1 200")


async def test_who_holds_every_connection_waits_alone(tmp_path: Path) -> None:
    async with containers(tmp_path) as (malicious, neighbour):
        held = [await malicious.connect() for _ in range(16)]
        waiting = asyncio.create_task(malicious.ask())

        assert await is_served(neighbour)
        await asyncio.sleep(A_MOMENT)
        assert not waiting.done()

        held[0][1].close()
        async with asyncio.timeout(PROMPTLY):
            assert (await waiting).startswith(b"HTTP/1.1 200")
        for _, writer in held:
            writer.close()


async def test_a_flood_of_acknowledgements_costs_few_writes(tmp_path: Path) -> None:
    async with containers(tmp_path) as (malicious, neighbour):
        began = time.monotonic()
        flood = [asyncio.create_task(malicious.acknowledge(revision)) for revision in range(30)]
        async with asyncio.timeout(PROMPTLY):
            assert (await neighbour.acknowledge(1)).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(A_MOMENT)

        assert 8 <= len(malicious.applied) <= 9 + (time.monotonic() - began)
        assert neighbour.applied == [1]
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


async def test_connections_beyond_the_pace_wait(tmp_path: Path) -> None:
    async with containers(tmp_path) as (malicious, neighbour):
        began = time.monotonic()
        asked = [asyncio.create_task(malicious.ask()) for _ in range(100)]
        async with asyncio.timeout(PROMPTLY):
            await asyncio.wait(asked[:40])
        assert await is_served(neighbour)

        assert sum(task.done() for task in asked) <= 41 + 20 * (time.monotonic() - began)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_questions_heaped_up_behind_one_that_waits_are_not_read(tmp_path: Path) -> None:
    async with containers(tmp_path) as (malicious, neighbour):
        _, writer = await malicious.connect()
        writer.write(b"GET /v1/quality?after=1&timeout=60s HTTP/1.1\r\nHost: agent\r\n\r\n")
        await asyncio.sleep(A_MOMENT)
        writer.write(b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n" * 1_000_000)

        assert await is_served(neighbour)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(A_MOMENT):
                await writer.drain()
        assert writer.transport.get_write_buffer_size() > 20 << 20
        writer.transport.abort()


GARBAGE = {
    "bytes": bytes(range(256)) * 64,
    "nothing": b"",
    "a request without an end": b"GET /v1/quality HTTP/1.1\r\n",
    "a header without an end": b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
    "another path": b"GET /../../etc/passwd HTTP/1.1\r\nHost: agent\r\n\r\n",
    "a length that is a lie": b"POST /v1/applied HTTP/1.1\r\nHost: agent\r\nContent-Length: 99999999\r\n\r\n{}",
    "a revision that is none": b"POST /v1/applied HTTP/1.1\r\nHost: a\r\nContent-Length: 17\r\n\r\n{'revision': -1 }",
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_answered_or_waited_for(tmp_path: Path, text: bytes) -> None:
    async with containers(tmp_path) as (malicious, neighbour):
        sending = asyncio.create_task(malicious.send(text))
        await asyncio.sleep(0)

        assert await is_served(neighbour)
        assert await is_served(malicious)
        assert malicious.applied == []
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_a_full_directory_is_its_own_and_goes_with_it(tmp_path: Path) -> None:
    async with containers(tmp_path) as (malicious, neighbour):
        for name in (f".{TARGET_FILE}.new", "quality", "deep/er"):
            (malicious.path / name).unlink(missing_ok=True)
            (malicious.path / name).mkdir(parents=True)
        for number in range(2000):
            (malicious.path / f"file-{number}").touch()

        with pytest.raises(OSError, match=r"Is a directory|Not permitted|not permitted"):
            await malicious.directory.tell(told(2))
        await neighbour.directory.tell(told(2))

        assert (neighbour.path / TARGET_FILE).read_bytes() == told(2).document
        assert await is_served(malicious)
    assert not malicious.path.exists()


async def test_links_in_the_directory_lead_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    secret.chmod(0o600)
    async with containers(tmp_path) as (malicious, _):
        for name in (TARGET_FILE, f".{TARGET_FILE}.new", "quality", ".quality.new", SOCKET_FILE):
            path = malicious.path / name
            path.unlink(missing_ok=True)
            path.symlink_to(secret)

        await malicious.directory.tell(told(2))
        (malicious.path / SOCKET_FILE).unlink()
        (malicious.path / SOCKET_FILE).symlink_to(tmp_path / "absent")
        await malicious.directory.open()

        assert (malicious.path / TARGET_FILE).read_bytes() == told(2).document
        assert not (malicious.path / TARGET_FILE).is_symlink()
        assert (malicious.path / SOCKET_FILE).is_socket()
        assert not (malicious.path / SOCKET_FILE).is_symlink()
    assert secret.read_text() == "of the host"
    assert secret.stat().st_mode & 0o777 == 0o600


async def test_a_link_in_the_place_of_the_tools_opens_nothing(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    async with containers(tmp_path) as (malicious, _):
        (malicious.path / "bin").rmdir()
        (malicious.path / "bin").symlink_to(private)

        with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
            await malicious.directory.tell(told(2))

    assert private.stat().st_mode & 0o777 == 0o700
