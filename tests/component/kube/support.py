"""A cable that can be cut, and reflectors that are followed in the background."""

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from arbiter_kube.client import Reflector, ReflectorEvent
from tests.support.patience import PATIENCE

T = TypeVar("T")

SO_ATTACH_FILTER = 26
"""Of Linux; the module `socket` does not name it."""


class Followed(Generic[T]):
    """A reflector that is iterated in the background."""

    def __init__(self, reflector: Reflector[T]) -> None:
        self.reflector = reflector
        self._events: asyncio.Queue[ReflectorEvent[T]] = asyncio.Queue()
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for event in self.reflector:
            self._events.put_nowait(event)

    async def take(self, count: int) -> list[ReflectorEvent[T]]:
        """The next events, waited for."""
        async with asyncio.timeout(PATIENCE):
            return [await self._events.get() for _ in range(count)]

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


Follow = Callable[[Reflector[Any]], Followed[Any]]  # of any kind


class Cable:
    """A TCP proxy on loopback that can be cut (connections end, new ones are refused) or dies silently."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._gate = asyncio.Event()
        self._gate.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted connections are gone one step of the loop later

    def fall_silent(self) -> None:
        """Nothing flows any more on the connections of now, and neither end is told; later ones work."""
        self._gate.clear()
        self._gate = asyncio.Event()
        self._gate.set()

    def lose_everything(self) -> None:
        """As when the network is gone: of the connections of now, not even an acknowledgement arrives."""
        self.fall_silent()
        for writer in self._writers:
            _drop_what_arrives(writer.get_extra_info("socket"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        task.add_done_callback(lambda _: self._writers.discard(writer))
        gate = self._gate
        with suppress(OSError), _aborted_unless_done(writer):
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target)
            with _aborted_unless_done(upstream_writer):
                await asyncio.gather(
                    self._pump(reader, upstream_writer, gate), self._pump(upstream_reader, writer, gate)
                )

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with suppress(OSError):
            while piece := await source.read(65536):
                await gate.wait()
                sink.write(piece)
                await sink.drain()
        sink.close()


def _drop_what_arrives(at: socket.socket) -> None:
    """Lets the kernel lose every packet for this socket, before TCP sees it: the program "return 0 bytes of it"."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    at.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


@contextmanager
def _aborted_unless_done(writer: asyncio.StreamWriter) -> Iterator[None]:
    """Ends a connection with whoever served it: nobody else would before the loop closes."""
    try:
        yield
    except BaseException:
        writer.transport.abort()
        raise
