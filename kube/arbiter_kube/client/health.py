"""What a process tells about itself over HTTP: /healthz, /readyz and /metrics."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder

Obstacle = Callable[[], str | None]
"""What keeps a process from its work right now, in one sentence; None if nothing does."""

_BUILD = Gauge("arbiter_build_info", "A process of Arbiter and its version; always 1.", ["component", "version"])


class InvalidBindError(ValueError):
    """Not HOST:PORT."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Where a server listens; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_bind(text: str) -> Bind:
    """``127.0.0.1:8080``, ``[::]:8080`` or ``:8080``, which is every address.

    Raises:
        InvalidBindError: the text is none of these.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not (colon and port.isascii() and port.isdigit() and int(port) < 65536) or (":" in bare and bare == host):
        raise InvalidBindError(f'"{text}" is no address to listen on; write HOST:PORT, for example 0.0.0.0:8080')
    return Bind(bare or "0.0.0.0", int(port))  # noqa: S104 - kubelet and Prometheus ask from outside the pod


@asynccontextmanager
async def serve_health(
    bind: Bind, *, component: str, ready: Obstacle, registry: CollectorRegistry = REGISTRY
) -> AsyncIterator[Bind]:
    """Serves while the context lasts; yields where it listens. `component` is what the process calls itself.

    `/healthz` answers as long as the event loop turns; `/readyz` answers 503 with what `ready` says.

    Raises:
        OSError: the address is taken or not ours.
    """
    _BUILD.labels(component, version("arbiter")).set(1)
    runner = web.AppRunner(_application(ready, registry), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, bind.host, bind.port)
        await site.start()
        yield Bind(bind.host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _application(ready: Obstacle, registry: CollectorRegistry) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        obstacle = ready()
        return web.Response(status=503, text=f"{obstacle}\n") if obstacle else web.Response(text="ok\n")

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return application
