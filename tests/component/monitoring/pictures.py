"""`python -m tests.component.monitoring.pictures` draws the dashboards of two eventful minutes for docs/."""

import asyncio
import tempfile
import time
from pathlib import Path

from arbiter.units import GIB, MIB
from arbiter_kube.api.objects import ObjectKey
from hack.cluster.paths import REPOSITORY
from hack.cluster.process import Processes
from hack.dashboards.picture import draw
from hack.dashboards.prometheus import Prometheus
from hack.dashboards.views import DASHBOARDS
from tests.component.monitoring.stage import Stage, staged

CHAT, POSTERS = ObjectKey("team-a", "chat"), ObjectKey("team-b", "posters")
DRAFT, RENDER = ObjectKey("team-a", "draft"), ObjectKey("team-b", "render")
SCENE_SECONDS = 18.0


async def _live(stage: Stage) -> None:
    """Two alone on their GPUs, a third beside one of them, one that finds no room, one that takes too much, an end."""
    sizes = {"full": "10Gi", "floor": "4Gi"}
    await stage.allocate(CHAT, workloadType="LlmInference", priority="High", vram=sizes)
    await stage.create(CHAT, allocation="chat")
    await _start(stage, CHAT)
    stage.use({"team-a/chat": 9600 * MIB}, {})
    await asyncio.sleep(SCENE_SECONDS)
    await stage.allocate(POSTERS, workloadType="ImageGeneration", priority="Background", vram=sizes | {"full": "11Gi"})
    await stage.create(POSTERS, allocation="posters")
    await _start(stage, POSTERS)
    chat = {"team-a/chat": 9600 * MIB}
    stage.use(chat, {"team-b/posters": 10 * GIB})
    await asyncio.sleep(SCENE_SECONDS)
    await stage.create(DRAFT, workload_type="LlmInference", vram_full="8Gi", vram_floor="3Gi")
    stage.use(chat, {"team-b/posters": 5 * GIB})
    await _start(stage, DRAFT)
    stage.use(chat, {"team-b/posters": 5 * GIB, "team-a/draft": 5 * GIB})
    await asyncio.sleep(SCENE_SECONDS)
    await stage.create(RENDER, workload_type="VideoGeneration", priority="Low", vram_full="24Gi", vram_floor="10Gi")
    await stage.place(RENDER)
    await asyncio.sleep(SCENE_SECONDS)
    stage.use(chat, {"team-b/posters": 7 * GIB, "team-a/draft": 5 * GIB})
    await asyncio.sleep(SCENE_SECONDS)
    stage.use(chat, {"team-b/posters": 10 * GIB})
    await stage.end(DRAFT)
    await asyncio.sleep(SCENE_SECONDS)


async def _start(stage: Stage, key: ObjectKey) -> None:
    refusal = await stage.place(key)
    assert refusal == "", refusal
    await stage.run(key)


async def main() -> None:
    """Plays, draws, and prints the files."""
    with tempfile.TemporaryDirectory() as name:
        processes = Processes(Path(name), die_with_parent=True)
        start = time.time()
        async with staged(Path(name), processes) as (stage, prometheus):
            start = time.time()
            await _live(stage)
            _draw(prometheus, start=start, end=time.time())
        processes.stop("prometheus")


def _draw(prometheus: Prometheus, *, start: float, end: float) -> None:
    for file, dashboard in DASHBOARDS.items():
        path = REPOSITORY / "docs" / f"dashboard-{file}.svg"
        draw(dashboard, prometheus, start=start, end=end, path=path)
        print(path)


if __name__ == "__main__":
    asyncio.run(main())
