"""A container's directory on the host, mounted read-only at /run/arbiter: its files and the socket that it asks.

One socket for each container, so that no identity is asked for. Whatever runs in the container may send anything to it,
so connections are bounded in number, and both they and acknowledgements in pace: who asks for more waits, and nobody
else does. Nothing in the directory is trusted to be what was put there.
"""

import asyncio
import logging
import os
import shutil
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
from aiohttp import web

from arbiter_deviceplugin.target import Told
from arbiter_kube.api.durations import parse_duration
from arbiter_kube.api.reading import UNREADABLE
from arbiter_kube.client.bucket import TokenBucket

_log = logging.getLogger(__name__)

SOCKET_FILE = "agent.sock"
LONGEST_SOCKET_PATH = 107
"""What the kernel takes for a unix socket, in bytes."""

TOOLS = "bin"
"""Where a container finds what it may execute: a mount of its own, for which the directory has the place."""

NAME_LENGTH = 16

_MAX_CONNECTIONS = 16
_MAX_BODY = 4096
_CONNECTIONS_PER_SECOND, _CONNECTIONS_AT_ONCE = 20.0, 40
_ACKNOWLEDGEMENTS_PER_SECOND, _ACKNOWLEDGEMENTS_AT_ONCE = 1.0, 8
"""Each may cost a write to the disk that is waited for."""

_ACCEPT_PAUSE = 1.0
"""After a connection that could not be taken, for want of descriptors above all."""

_LONGEST_WAIT = 60.0

CLOSING_SECONDS = 1.0
"""How long answers under way may take when a directory ends."""


class Applied(msgspec.Struct, rename="camel"):
    """The body of an acknowledgement: what the container runs with since it read `revision`."""

    revision: Annotated[int, msgspec.Meta(ge=0)]
    vram_bytes: Annotated[int, msgspec.Meta(ge=0)]
    quality: Annotated[float, msgspec.Meta(ge=0, le=1)]


Acknowledge = Callable[[Applied], Awaitable[None]]
"""Returns once the acknowledgement is on the disk."""


class ContainerDirectory:
    """Tells one container its grant and hears its acknowledgements."""

    def __init__(self, path: Path, *, acknowledge: Acknowledge) -> None:
        self.path = path
        self._acknowledge = acknowledge
        self._told: Told | None = None
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._listener: asyncio.Task[None] | None = None
        self._server = _Server(self._answer)
        now = asyncio.get_running_loop().time()
        self._connections = TokenBucket(rate=_CONNECTIONS_PER_SECOND, burst=_CONNECTIONS_AT_ONCE, now=now)
        self._acknowledgements = TokenBucket(
            rate=_ACKNOWLEDGEMENTS_PER_SECOND, burst=_ACKNOWLEDGEMENTS_AT_ONCE, now=now
        )

    async def open(self) -> None:
        """Makes the directory, the socket and the files where they are missing."""
        async with self._writing:
            is_open = self._listener is not None and not self._listener.done()
            if not (is_open and (self.path / SOCKET_FILE).exists()):
                await self.close()
                await self._open()
                if self._told is not None:
                    await asyncio.to_thread(_write_files, self.path, self._told)

    async def _open(self) -> None:
        await asyncio.to_thread(make_directory, self.path)
        listener = await asyncio.to_thread(_listen, self.path)
        self._listener = asyncio.create_task(self._accept(listener))
        self._listener.add_done_callback(lambda _: listener.close())

    async def _accept(self, listener: socket.socket) -> None:
        """Takes one connection after another; beyond the limits they wait in the kernel, at the caller's cost."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._connections.take(loop.time()))
            await self._server.free.acquire()
            try:
                connection, _ = await loop.sock_accept(listener)
                await loop.connect_accepted_socket(self._server, connection)
            except OSError as error:
                _log.warning("connection not taken directory=%s error=%s", self.path.name, error)
                self._server.free.release()
                await asyncio.sleep(_ACCEPT_PAUSE)
            except asyncio.CancelledError:
                self._server.free.release()
                raise

    async def close(self) -> None:
        """Ends the socket; the files stay, since the container may still read them."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])  # not the task itself: its cancellation would hide our own
            self._listener = None
        self._wake()  # or every end of a container would wait for the questions that it left open
        await self._server.shutdown(CLOSING_SECONDS)

    async def remove(self) -> None:
        """Ends the socket and removes the directory: its container is gone."""
        async with self._writing:
            await self.close()
            await asyncio.to_thread(remove_directory, self.path)

    async def tell(self, told: Told) -> None:
        """Replaces the files and answers whoever waits; telling the same again does nothing."""
        async with self._writing:
            if told == self._told:
                return
            await asyncio.to_thread(_write_files, self.path, told)
            self._told = told
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._respond(request)
        response.force_close()
        return response

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.method, request.path:
            case "GET", "/v1/quality":
                return await self._quality(request)
            case "POST", "/v1/applied":
                return await self._applied(request)
        return web.Response(status=404, text="ask GET /v1/quality or POST /v1/applied\n")

    async def _quality(self, request: web.BaseRequest) -> web.Response:
        """The current target; with `?after=REVISION&timeout=60s` it waits for a newer one."""
        try:
            after = int(request.query.get("after", "-1"))
            patience = min(parse_duration(request.query.get("timeout", "0s")), _LONGEST_WAIT)
        except ValueError as error:
            return _bad(f"{error}; ask for ?after=REVISION&timeout=60s")
        if request.transport is not None:
            request.transport.pause_reading()  # else questions without end could be heaped up behind this one
        told = await self._newer_than(after, patience)
        if told is None:
            return web.Response(status=503, text="no target has been decided yet\n")
        return web.Response(body=told.document, content_type="application/json")

    async def _newer_than(self, revision: int, patience: float) -> Told | None:
        try:
            async with asyncio.timeout(patience):
                while self._listener and (self._told is None or self._told.revision <= revision):
                    await self._changed.wait()
        except TimeoutError:
            _log.debug("no newer target directory=%s revision=%d", self.path.name, revision)
        return self._told

    async def _applied(self, request: web.BaseRequest) -> web.Response:
        try:
            applied = msgspec.json.decode(await request.read(), type=Applied)
        except UNREADABLE as error:
            return _bad(f'{error}; send {{"revision": 3, "quality": 0.904, "vramBytes": 9705619456}}')
        await asyncio.sleep(self._acknowledgements.take(asyncio.get_running_loop().time()))
        await self._acknowledge(applied)
        return web.Response(text="ok\n")


class _Server(web.Server):
    """Takes short bodies only, and gives a place free with each connection that ends."""

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(answer, request_factory=_request, access_log=None)
        self.free = asyncio.Semaphore(_MAX_CONNECTIONS)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Called for each connection at its end."""
        super().connection_lost(handler, exc)
        self.free.release()


def _request(
    message: Any,  # what the parser hands over is passed on as it is
    payload: Any,
    protocol: Any,
    writer: Any,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY)


def _bad(sentence: str) -> web.Response:
    return web.Response(status=400, text=f"{sentence}\n")


def make_directory(path: Path) -> None:
    """Makes a container's directory, readable by whatever user runs in it, below one that only root may enter.

    Containers see their own directory through a mount; the host's users must not acknowledge in their name.
    """
    path.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.chmod(0o755)
    with suppress(FileExistsError):
        (path / TOOLS).mkdir()
    tools = os.open(path / TOOLS, os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(tools, 0o755)
    finally:
        os.close(tools)


def remove_directory(path: Path) -> None:
    """Removes a container's directory with whatever is in it: runtimes make mount points in there."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def _write_files(directory: Path, told: Told) -> None:
    make_directory(directory)
    for name, text in told.files.items():
        temporary = directory / f".{name}.new"
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # made anew: a link that somebody put there is not followed
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        temporary.replace(directory / name)


def _listen(directory: Path) -> socket.socket:
    """A listening socket in the directory, for every user of the container.

    It is made beside the directory, where no container can exchange it before its mode is set, and moved in.
    """
    made = directory.with_name(f".{directory.name}.sock")
    made.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.bind(str(made))
        made.chmod(0o666)
        listener.listen(_MAX_CONNECTIONS)
        made.replace(directory / SOCKET_FILE)
    except OSError:
        listener.close()
        raise
    return listener
