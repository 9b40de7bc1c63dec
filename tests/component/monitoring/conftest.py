"""A Prometheus that saw a few seconds of everything; its sources have ended, and what it scraped stays."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from arbiter.units import GIB
from arbiter_kube.api.objects import ObjectKey
from hack.cluster.process import Processes
from hack.dashboards.prometheus import Json, Prometheus
from tests.component.monitoring.stage import SCRAPE_SECONDS, staged
from tests.component.operator.support import eventually

CHAT, POSTERS, RENDER = ObjectKey("team-a", "chat"), ObjectKey("team-b", "posters"), ObjectKey("team-b", "render")


@dataclass(frozen=True)
class Recording:
    """What was scraped; `at` is a moment when everything below was so, `expositions` the text of each process."""

    prometheus: Prometheus
    at: float
    expositions: tuple[str, ...]
    rules: tuple[Json, ...]


@pytest.fixture(scope="package")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """chat and posters share a GPU, posters uses more than it may, and render finds no room."""
    directory = tmp_path_factory.mktemp("monitoring")
    processes = Processes(directory, die_with_parent=True)
    yield asyncio.run(_record(directory, processes))
    processes.stop("prometheus")


async def _record(directory: Path, processes: Processes) -> Recording:
    async with staged(directory, processes) as (stage, prometheus):
        await stage.create(
            CHAT, workload_type="LlmInference", priority="High", vram_full="10Gi", vram_floor="8Gi", container="main"
        )
        assert await stage.place(CHAT) == ""
        await stage.run(CHAT)
        await stage.create(POSTERS, workload_type="ImageGeneration", vram_full="24Gi", vram_floor="10Gi", gpu_count="1")
        assert await stage.place(POSTERS) == ""
        await stage.run(POSTERS)
        await stage.create(RENDER, workload_type="VideoGeneration", priority="Low", vram_full="24Gi", vram_floor="11Gi")
        assert "no GPU with room" in await stage.place(RENDER)
        stage.use({"team-a/chat": 9 * GIB}, {"team-b/posters": 13 * GIB})

        async def look() -> bool | None:
            seen = prometheus.at("arbiter_measured_above_grant_bytes", time.time())
            waits = prometheus.at("arbiter_pod_waiting_since_timestamp_seconds", time.time())
            return True if seen and waits else None

        await eventually(look, "scrape of who takes too much")
        # A rate needs two scrapes.
        await asyncio.sleep(2 * SCRAPE_SECONDS)
        at = time.time()
        return Recording(prometheus, at, await _expositions(prometheus), tuple(prometheus.rules()))


async def _expositions(prometheus: Prometheus) -> tuple[str, ...]:
    async with aiohttp.ClientSession() as session:
        texts = []
        for target in prometheus.targets():
            async with session.get(target["scrapeUrl"]) as answer:
                texts.append(await answer.text())
        return tuple(texts)
