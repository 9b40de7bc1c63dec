"""A CDN on loopback whose answers a test spoils one after the other."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from aiohttp import web

from arbiter.cache import Fragment
from tests.support.patience import PATIENCE

T = TypeVar("T")
Spoil = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


class CdnServer:
    """Serves fragments from `/sha256/<digest>` with ranges; each request uses up one of `spoils`."""

    def __init__(self) -> None:
        self.spoils: list[Spoil] = []
        self.ranges: list[str | None] = []
        """The Range header of each request so far."""
        self.held = threading.Event()
        """Set while a stalled answer hangs."""
        self._contents: dict[str, bytes] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def have(self, content: bytes) -> Fragment:
        fragment = Fragment.of(content)
        self._contents[fragment.id.removeprefix("sha256:")] = content
        return fragment

    def start(self) -> None:
        self._run(self._start())

    def stop(self) -> None:
        """Connections end in the middle of what they carry, and new ones are refused."""
        self._run(self._stop())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/sha256/{digest}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)  # 0 would wait for ever
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()

    async def _stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None
        stalled = asyncio.all_tasks() - {asyncio.current_task()}
        for answer in stalled:
            answer.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.ranges.append(request.headers.get("Range"))
        content = self._contents.get(request.match_info["digest"])
        if content is None:
            raise web.HTTPNotFound
        spoil = self.spoils.pop(0) if self.spoils else well
        return await spoil(request, content)


async def well(request: web.Request, content: bytes) -> web.StreamResponse:
    """All of it, or the range that was asked for."""
    start = request.http_range.start or 0
    if not request.headers.get("Range"):
        return web.Response(body=content)
    if start >= len(content):
        return web.Response(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return web.Response(status=206, body=content[start:], headers={"Content-Range": span})


def cut_after(size: int) -> Spoil:
    """The connection breaks after so many bytes of what was promised."""

    async def spoil(request: web.Request, content: bytes) -> web.StreamResponse:
        answer = await _begin(request, content)
        start = request.http_range.start or 0
        await answer.write(content[start : start + size])
        assert request.transport is not None
        request.transport.close()
        return answer

    return spoil


def ended_after(size: int) -> Spoil:
    """A chunked answer that ends in good order, too early."""

    async def spoil(request: web.Request, content: bytes) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(content[:size])
        await answer.write_eof()
        return answer

    return spoil


def stalled_after(size: int, server: CdnServer) -> Spoil:
    """Nothing comes after so many bytes, and the connection stays."""

    async def spoil(request: web.Request, content: bytes) -> web.StreamResponse:
        answer = await _begin(request, content)
        start = request.http_range.start or 0
        await answer.write(content[start : start + size])
        server.held.set()
        await asyncio.sleep(PATIENCE)
        return answer

    return spoil


async def corrupt(request: web.Request, content: bytes) -> web.StreamResponse:
    """The right length, another byte."""
    return await well(request, content[:-1] + b"\0")


async def too_long(request: web.Request, content: bytes) -> web.StreamResponse:
    """More than the fragment has."""
    return web.Response(body=content + b"more")


async def without_ranges(_: web.Request, content: bytes) -> web.StreamResponse:
    """All of it, whatever was asked for."""
    return web.Response(body=content)


async def another_range(_: web.Request, content: bytes) -> web.StreamResponse:
    """A part, but not the one that was asked for."""
    return web.Response(
        status=206, body=content[1:], headers={"Content-Range": f"bytes 1-{len(content) - 1}/{len(content)}"}
    )


def beginning_at(first: str) -> Spoil:
    """A part that begins with that byte, as it says."""

    async def spoil(_: web.Request, content: bytes) -> web.StreamResponse:
        return web.Response(status=206, body=content, headers={"Content-Range": f"bytes {first}-/*"})

    return spoil


async def dripping(request: web.Request, _: bytes) -> web.StreamResponse:
    """Headers that come byte by byte, for ten seconds."""
    connection = request.transport
    assert connection is not None
    connection.write(b"HTTP/1.1 200 OK\r\nName: ")
    for _tick in range(100):
        await asyncio.sleep(0.1)
        connection.write(b"a")
    connection.close()
    return web.Response()


def status(code: int, **headers: str) -> Spoil:
    """No content; underscores in the headers' names are dashes."""

    async def spoil(_: web.Request, __: bytes) -> web.StreamResponse:
        return web.Response(status=code, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return spoil


async def _begin(request: web.Request, content: bytes) -> web.StreamResponse:
    start = request.http_range.start or 0
    answer = web.StreamResponse(status=206 if start else 200)
    if start:
        answer.headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    answer.content_length = len(content) - start
    await answer.prepare(request)
    return answer
