"""The extender over HTTP: reads a request with bounds on its size and time, answers in one write.

Imports aiohttp, msgspec, the service and `heads`.
"""

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, cast

import msgspec
from aiohttp import web

from arbiter.units import MIB, format_bytes
from arbiter_extender.errors import BadRequestError, BindError
from arbiter_extender.heads import Connections, answering
from arbiter_extender.messages import ExtenderArgs, ExtenderBindingArgs, ExtenderBindingResult
from arbiter_extender.metrics import Metrics
from arbiter_extender.service import Extender
from arbiter_kube.api.reading import UNREADABLE
from arbiter_kube.client.health import Bind, Obstacle
from arbiter_kube.client.process import ConfigurationError
from arbiter_kube.client.turns import Turns

T = TypeVar("T")

_log = logging.getLogger(__name__)

MAX_BODY = 8 * MIB
"""A pod is at most 1.5 MiB in etcd, 5,000 names of 253 characters are 1.3 MB."""

MAX_BODIES = 8 * MAX_BODY
"""Of all bodies that are being read at the same time: what a flood of them may take of the memory."""

BODY_SECONDS = 5.0

_TOO_LARGE = f"The request's body is larger than {format_bytes(MAX_BODY)}.\n"

DRAIN_SECONDS = 5.0
"""What requests under way may still take once the process is told to end."""

KEEPALIVE_SECONDS = 120.0
"""Longer than the 90 s of Go's client, which therefore closes first and never writes into a closed connection."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve(bind: Bind, extender: Extender, *, ready: Obstacle, metrics: Metrics) -> AsyncIterator[Bind]:
    """Serves while the context lasts, then lets requests under way finish; yields where it listens.

    Raises:
        ConfigurationError: the address is taken or not ours.
    """
    if not is_loopback(bind.host):
        _log.warning("whoever reaches this address can bind pods; let kube-scheduler alone reach it bind=%s", bind)
    application = _application(_Verbs(extender), ready=ready, metrics=metrics)
    runner = web.AppRunner(
        application, access_log=None, keepalive_timeout=KEEPALIVE_SECONDS, shutdown_timeout=DRAIN_SECONDS
    )
    await runner.setup()
    try:
        listening = await _listen(bind, cast("web.Server", runner.server))  # which set-up has made
        try:
            yield Bind(bind.host, listening.sockets[0].getsockname()[1])
        finally:
            listening.close()
    finally:
        await runner.cleanup()


async def _listen(bind: Bind, http: web.Server) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(Connections(http), bind.host, bind.port)
    except OSError as error:
        raise ConfigurationError(f"--bind {bind} cannot be listened on: {error.strerror}.") from error


def is_loopback(host: str) -> bool:
    """Whether nobody outside this machine, or this pod, is meant by an address or a host's name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Bodies:
    """Reads bodies of requests: each within bounds of size and time, and all that are under way within one of size."""

    def __init__(self) -> None:
        self._expected = 0

    async def read(self, request: web.Request, kind: type[T]) -> T:
        size = MAX_BODY if request.content_length is None else request.content_length
        if size > MAX_BODY:
            raise web.HTTPRequestEntityTooLarge(MAX_BODY, size, text=_TOO_LARGE)
        if self._expected + size > MAX_BODIES:
            raise web.HTTPServiceUnavailable(text=f"More than {format_bytes(MAX_BODIES)} of requests are under way.\n")
        self._expected += size
        try:
            body = await _body(request)
        finally:
            self._expected -= size
        try:
            return msgspec.json.decode(body, type=kind)
        except UNREADABLE as error:
            raise BadRequestError(f"The request's body is not {kind.__name__}: {error}.") from error


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text=f"The request's body did not come within {BODY_SECONDS:g} s.\n") from error
    except web.HTTPRequestEntityTooLarge as error:
        error.text = _TOO_LARGE
        raise


class _Verbs:
    """One handler per path."""

    def __init__(self, extender: Extender) -> None:
        self._extender = extender
        self._bodies = _Bodies()

    async def filter(self, request: web.Request) -> web.Response:
        return _answer(self._extender.filter(await self._bodies.read(request, ExtenderArgs)))

    async def prioritize(self, request: web.Request) -> web.Response:
        return _answer(self._extender.prioritize(await self._bodies.read(request, ExtenderArgs)))

    async def bind(self, request: web.Request) -> web.Response:
        args = await self._bodies.read(request, ExtenderBindingArgs)
        try:
            await self._extender.bind(args)
        except BindError as error:
            _log.warning("pod not bound pod=%s node=%s error=%s", args.key, args.node, error)
            return _answer(ExtenderBindingResult(str(error)))
        return _answer(ExtenderBindingResult())

    async def ledger(self, request: web.Request) -> web.StreamResponse:
        """One JSON object, node by node: thousands of nodes must not keep kube-scheduler waiting."""
        if not is_loopback(request.remote or ""):
            raise web.HTTPForbidden(text="The ledger is shown on loopback only.\n")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        separator, turns = b"{", Turns()
        for name, there in self._extender.view():
            # An object of one node, without its braces; fractions are written out.
            await response.write(separator + msgspec.json.encode({name: there}, enc_hook=str)[1:-1])
            separator = b",\n"
            await turns.give_way()
        await response.write(b"}\n" if separator != b"{" else b"{}\n")
        await response.write_eof()
        return response


def _application(verbs: _Verbs, *, ready: Obstacle, metrics: Metrics) -> web.Application:
    @web.middleware
    async def refuse(request: web.Request, handler: _Handler) -> web.StreamResponse:
        with answering(request):
            obstacle = ready()
            if obstacle is not None:
                raise web.HTTPServiceUnavailable(text=f"{obstacle}\n")
            try:
                return await handler(request)
            except BadRequestError as error:
                raise web.HTTPBadRequest(text=f"{error}\n") from error

    def timed(verb: str, handler: _Handler) -> web.RouteDef:
        seconds = metrics.request_seconds.labels(verb)

        async def measure(request: web.Request) -> web.StreamResponse:
            with seconds.time():
                return await handler(request)

        return web.post(f"/{verb}", measure)

    application = web.Application(client_max_size=MAX_BODY, middlewares=[refuse])
    application.add_routes(
        [
            timed("filter", verbs.filter),
            timed("prioritize", verbs.prioritize),
            timed("bind", verbs.bind),
            web.get("/debug/ledger", verbs.ledger),
        ]
    )
    return application


def _answer(content: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), content_type="application/json")
