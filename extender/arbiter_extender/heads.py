"""Connections: only so many at a time, and on each requests begin in time.

aiohttp bounds how long a head is and how long a connection may rest, but neither how long a head takes to come nor how
many connections there are. Imports aiohttp.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from aiohttp import StreamReader, web

HEAD_SECONDS = 5.0
"""From the first byte of a request until its head is whole."""

MOST_CONNECTIONS = 800
"""At a time. kube-scheduler has one for each bind under way; most systems let a process have 1,024 files open."""


class Connections:
    """Makes a protocol for each new connection; those beyond the bound are answered 503 and closed."""

    def __init__(self, http: Callable[[], asyncio.Protocol]) -> None:
        """`http` makes aiohttp's."""
        self._http = http
        self._open = 0

    def __call__(self) -> asyncio.Protocol:
        """asyncio: somebody connects."""
        if self._open >= MOST_CONNECTIONS:
            return _Refusal()
        self._open += 1
        return Connection(self._http(), closed=self._closed)

    def _closed(self) -> None:
        self._open -= 1


class _Refusal(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it is there."""
        sentence = f"There are {MOST_CONNECTIONS} connections already."
        _end(cast("asyncio.Transport", transport), "503 Service Unavailable", sentence)


class Connection(asyncio.Protocol):
    """Hands everything on to aiohttp's protocol, and answers 408 itself where a head takes too long."""

    def __init__(self, http: asyncio.Protocol, *, closed: Callable[[], None]) -> None:
        self._http = http
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._body: StreamReader | None = None
        """Of the last request whose head was whole."""
        self._is_answering = False
        self._is_ahead = False
        """Whether the next request has begun while that one is being answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it is there."""
        self._transport = cast("asyncio.Transport", transport)  # what a TCP connection has
        self._http.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes have come: of a body, else of the next request."""
        if self._body is None or self._body.is_eof():
            if self._is_answering:
                self._is_ahead = True
            else:
                self._expect_head()
        self._http.data_received(data)

    def eof_received(self) -> bool | None:
        """asyncio: the other side sends no more."""
        return self._http.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio: it is gone."""
        self._stop_waiting()
        self._closed()
        self._http.connection_lost(error)

    def pause_writing(self) -> None:
        """asyncio: the other side reads slowly."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """asyncio: it has caught up."""
        self._http.resume_writing()

    @contextmanager
    def answering(self, request: web.BaseRequest) -> Iterator[None]:
        """Around everything that is done about a request whose head is there."""
        self._stop_waiting()
        self._body, self._is_answering, self._is_ahead = request.content, True, False
        try:
            yield
        finally:
            self._is_answering = False
            if self._is_ahead:
                self._expect_head()

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if self._transport is not None:
            sentence = f"The request's head did not come within {HEAD_SECONDS:g} s."
            _end(self._transport, "408 Request Timeout", sentence)


def _end(transport: asyncio.Transport, status: str, sentence: str) -> None:
    """Answers before there is a request, and closes."""
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    transport.write(f"{head}Content-Length: {len(sentence) + 1}\r\n\r\n{sentence}\n".encode("ascii"))
    transport.close()


@contextmanager
def answering(request: web.BaseRequest) -> Iterator[None]:
    """The same for a request on whatever connection it came; one that is gone needs nothing."""
    connection = None if request.transport is None else request.transport.get_protocol()
    if isinstance(connection, Connection):
        with connection.answering(request):
            yield
    else:
        yield
