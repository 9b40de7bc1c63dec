"""Requests to the API server over HTTP: bounded in time, repeated only where that is safe, errors mapped once."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPMethod

import aiohttp
import yarl

from arbiter_kube.client.backoff import Backoff
from arbiter_kube.client.credentials import Credentials
from arbiter_kube.client.errors import ApiError, KubeError, TooManyRequests, Unreachable, api_error
from arbiter_kube.client.lines import LineSplitter

CONNECT_TIMEOUT = 5.0

_PROBES = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3}
"""TCP keepalive: after so many seconds of silence the kernel probes the other end, so often, so many times.

Whoever watches sends nothing, so nothing else shows it that the network was gone. Once the network is back, TCP alone
would deliver an event only with the API server's next repetition, and those double their distance: after an outage of a
minute that takes up to another one.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `action` says it in words for errors: verb, resource, object."""

    action: str
    method: HTTPMethod
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"
    accept: str = "application/json"


class Transport:
    """A connection pool to one API server."""

    def __init__(self, credentials: Credentials, *, user_agent: str) -> None:
        self._credentials = credentials
        self._session = aiohttp.ClientSession(
            connector=connector(credentials),
            headers={"User-Agent": user_agent},
            response_class=_Response,
        )

    async def close(self) -> None:
        """Ends every connection."""
        await self._session.close()

    async def send(self, request: Request, *, within: float) -> bytes:
        """The body of a 2xx answer, within `within` seconds, repetitions included.

        Raises:
            ApiError: the API server refuses.
            Unreachable: no answer came.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + within
        backoff = Backoff(first=0.1, ceiling=2.0)
        while True:
            try:
                return await self._send_once(request, remaining=deadline - clock())
            except KubeError as error:
                delay = max(backoff.next(), getattr(error, "retry_after", None) or 0.0)
                if not _may_repeat(request, error) or clock() + delay >= deadline:
                    raise
            await asyncio.sleep(delay)

    async def _send_once(self, request: Request, *, remaining: float) -> bytes:
        limits = aiohttp.ClientTimeout(total=remaining, connect=min(remaining, CONNECT_TIMEOUT))
        try:
            async with await self._open(request, limits) as response:
                body = await response.read()
                if response.status >= 300:
                    raise _refusal(request, response, body)
                return body
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(request, error) from error

    async def stream(self, request: Request, *, idle: float) -> AsyncGenerator[bytes]:
        """The lines of an answer without end; `idle` seconds without a byte count as a lost connection.

        Raises:
            ApiError: the API server refuses.
            Unreachable: the connection was lost.
        """
        lines = LineSplitter()
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT, sock_read=idle)
        try:
            with closing(await self._open(request, limits)) as response:
                if response.status >= 300:
                    raise _refusal(request, response, await response.read())
                async for piece in response.content.iter_any():
                    for line in lines.feed(piece):
                        yield line
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(request, error) from error

    async def _open(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        headers = {"Accept": request.accept}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        try:
            token = await self._credentials.token.get()
        except Exception as error:  # whatever a credential plugin, which is anybody's program, may raise
            raise Unreachable(f"{request.action}: no token for the API server: {error}", never_sent=True) from error
        if token:
            headers["Authorization"] = f"Bearer {token}"
        url = yarl.URL(self._credentials.server + request.path, encoded=True).with_query(dict(request.query))
        return await self._session.request(
            request.method.value,
            url,
            data=request.body,
            headers=headers,
            timeout=limits,
            server_hostname=self._credentials.tls_server_name,
            allow_redirects=False,
        )


class _Response(aiohttp.ClientResponse):
    """An answer that, left before its end, ends its connection at once.

    asyncio would wait up to 30 s for the server's farewell in TLS, unseen by whoever closes the session, and the
    connection would outlive the loop.
    """

    def close(self) -> None:
        if self.connection is not None and self.connection.transport is not None:
            self.connection.transport.abort()
        super().close()


def connector(credentials: Credentials) -> aiohttp.TCPConnector:
    """A pool of connections to that API server, which are probed."""
    return aiohttp.TCPConnector(ssl=credentials.ssl or True, limit=0, socket_factory=_probing_socket)


def _probing_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _PROBES.items():
        if hasattr(socket, option):  # macOS, where the CLI runs too, has not all of them
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


def _may_repeat(request: Request, error: KubeError) -> bool:
    """Reading may always be repeated; writing only where it is certain that nothing was done."""
    if isinstance(error, TooManyRequests):
        return True
    if isinstance(error, Unreachable):
        return error.never_sent or request.method is HTTPMethod.GET
    return isinstance(error, ApiError) and error.is_transient and request.method is HTTPMethod.GET


def _refusal(request: Request, response: aiohttp.ClientResponse, body: bytes) -> ApiError:
    after = response.headers.get("Retry-After", "")
    return api_error(
        action=request.action,
        status=response.status,
        body=body,
        retry_after=float(after) if after.isascii() and after.isdigit() else None,
    )


def _unreachable(request: Request, error: BaseException) -> Unreachable:
    never_sent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    reason = str(error) or type(error).__name__
    return Unreachable(f"{request.action}: no answer from the API server: {reason}", never_sent=never_sent)
