"""The health server over real HTTP."""

import aiohttp
from prometheus_client import CollectorRegistry, Gauge

from arbiter_kube.client.health import Bind, serve_health

ANYWHERE = Bind("127.0.0.1", 0)


async def ask(bind: Bind, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{bind}{path}") as response:
        return response.status, await response.text()


async def test_readiness_is_what_the_process_says() -> None:
    obstacles = ["pods are not listed yet", None]
    async with serve_health(ANYWHERE, component="test", ready=lambda: obstacles.pop(0)) as bind:
        assert await ask(bind, "/readyz") == (503, "pods are not listed yet\n")
        assert await ask(bind, "/readyz") == (200, "ok\n")


async def test_a_process_that_is_not_ready_is_alive() -> None:
    async with serve_health(ANYWHERE, component="test", ready=lambda: "nothing works") as bind:
        assert await ask(bind, "/healthz") == (200, "ok\n")


async def test_metrics_are_prometheus_text() -> None:
    registry = CollectorRegistry()
    Gauge("arbiter_gpu_price", "Price.", ["gpu"], registry=registry).labels("GPU-1").set(1.5)
    async with serve_health(ANYWHERE, component="test", ready=lambda: None, registry=registry) as bind:
        status, text = await ask(bind, "/metrics")
    assert status == 200
    assert 'arbiter_gpu_price{gpu="GPU-1"} 1.5\n' in text
