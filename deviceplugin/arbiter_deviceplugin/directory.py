"""A container's directory on the host, mounted read-only at /run/arbiter: its files and the socket that it asks.

One socket for each container, so that no identity is asked for. Requests are bounded in size, number and time, since
whatever runs in the container may send them.
"""

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
from aiohttp import web

from arbiter_deviceplugin.target import Told
from arbiter_kube.api.durations import parse_duration

_log = logging.getLogger(__name__)

SOCKET_FILE = "agent.sock"
LONGEST_SOCKET_PATH = 107
"""What the kernel takes for a unix socket, in bytes."""

TOOLS = "bin"
"""Where a container finds what it may execute: a mount of its own, for which the directory has the place."""

NAME_LENGTH = 16

_MAX_CONNECTIONS = 16
_MAX_BODY = 4096
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
        self._listener: asyncio.AbstractServer | None = None
        self._server = _Server(self._answer)

    async def open(self) -> None:
        """Makes the directory, the socket and the files where they are missing."""
        async with self._writing:
            if not (self._listener and (self.path / SOCKET_FILE).exists()):
                await self.close()
                await self._open()
                if self._told is not None:
                    await asyncio.to_thread(_write_files, self.path, self._told)

    async def _open(self) -> None:
        await asyncio.to_thread(make_directory, self.path)
        path = self.path / SOCKET_FILE
        self._listener = await asyncio.get_running_loop().create_unix_server(self._server, str(path))
        path.chmod(0o666)

    async def close(self) -> None:
        """Ends the socket; the files stay, since the container may still read them."""
        if self._listener is not None:
            self._listener.close()
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
        except msgspec.MsgspecError as error:
            return _bad(f'{error}; send {{"revision": 3, "quality": 0.904, "vramBytes": 9705619456}}')
        await self._acknowledge(applied)
        return web.Response(text="ok\n")


class _Server(web.Server):
    """Closes connections beyond the limit as soon as they are made, and takes short bodies only."""

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(answer, request_factory=_request, access_log=None)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Called for each connection."""
        super().connection_made(handler, transport)
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.abort()


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
    tools = path / TOOLS
    tools.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    for opened in (path, tools):
        opened.chmod(0o755)


def remove_directory(path: Path) -> None:
    """Removes a container's directory with whatever is in it: runtimes make mount points in there."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def _write_files(directory: Path, told: Told) -> None:
    make_directory(directory)
    for name, text in told.files.items():
        temporary = directory / f".{name}.new"
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        temporary.replace(directory / name)
