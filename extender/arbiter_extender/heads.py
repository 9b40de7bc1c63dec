"""A connection whose requests begin in time: aiohttp bounds how long a head is, but not how long it takes to come.

Imports aiohttp.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from aiohttp import web

HEAD_SECONDS = 5.0
"""From the first byte of a request until its head is whole."""


class Connection(asyncio.Protocol):
    """Hands everything on to aiohttp's protocol, and answers 408 itself where a head takes too long."""

    def __init__(self, http: asyncio.Protocol) -> None:
        self._http = http
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._is_past_head = False
        """Whether what comes now belongs to a body, or to a request after the one that is being answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it is there."""
        self._transport = cast("asyncio.Transport", transport)  # what a TCP connection has
        self._http.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes have come."""
        if self._deadline is None and not self._is_past_head:
            self._deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._give_up)
        self._http.data_received(data)

    def eof_received(self) -> bool | None:
        """asyncio: the other side sends no more."""
        return self._http.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio: it is gone."""
        self._stop_waiting()
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
        self._is_past_head = True
        try:
            yield
        finally:
            # A body that nobody wanted may still be on its way.
            self._is_past_head = not request.content.is_eof()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if self._transport is None:
            return
        sentence = b"The request's head did not come within %g s.\n" % HEAD_SECONDS
        self._transport.write(
            b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(sentence), sentence)
        )
        self._transport.close()


@contextmanager
def answering(request: web.BaseRequest) -> Iterator[None]:
    """The same for a request on whatever connection it came; one that is gone needs nothing."""
    connection = None if request.transport is None else request.transport.get_protocol()
    if isinstance(connection, Connection):
        with connection.answering(request):
            yield
    else:
        yield
