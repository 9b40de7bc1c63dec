"""What the operator costs, and how quickly it answers, in a cluster of written objects.

ARBITER_BENCH_NODES says how many nodes of 8 GPUs there are, with a pod for each GPU. With ARBITER_BENCH_API=memory the
API server is one that keeps everything in memory. What is written is read from its audit log. The yardstick of writing
is a loop that sends as many patches of the same size and does nothing else.
"""

import asyncio
import json
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from arbiter.ids import NodeName
from arbiter.units import GIB
from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.resources import PODS
from arbiter_kube.client import Reflector
from arbiter_operator.writer import CONCURRENT_WRITES
from tests.bench.extender_site import (
    GPUS,
    a_waiting_pod,
    cpu_seconds,
    manifest,
    percentile,
    resident,
    together,
)
from tests.bench.operator_site import QUIET_SECONDS, Bench, real, stood_in_for
from tests.unit.extender.builders import PodBuilder, a_pod

pytestmark = pytest.mark.timeout(1800)

NODES = int(os.environ.get("ARBITER_BENCH_NODES", "50"))
API = {"real": real, "memory": stood_in_for}[os.environ.get("ARBITER_BENCH_API", "real")]
PODS_IN_ALL = NODES * GPUS
BARE_PATCHES = min(PODS_IN_ALL, 2000)
ARRIVALS = 100 if NODES > 200 else 30
MEMBERS = 8
CHURN_PER_SECOND = 20
IDLE_SECONDS = 10

Say = Callable[[str], None]
A_NODE = "arrivals"
MEMBER, ARRIVAL = "member-", "arrival-"


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Prints a figure at once, since a run takes minutes."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\noperator, {API.__name__}, {NODES} nodes, {PODS_IN_ALL} pods: {text}", end="", flush=True)

    return line


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with API(tmp_path_factory.mktemp("site")) as site:
        site.run(site.cluster.grow(nodes=NODES, pods=PODS_IN_ALL))
        yield site


def test_all_targets_to_be_written(bench: Bench, say: Say) -> None:
    cpu_before = time.process_time()
    bare = bench.run(_bare_loop(bench))
    bare_cpu = time.process_time() - cpu_before
    writes = bench.writes()
    bench.operator.start()
    deadline = time.monotonic() + 600
    while len(writes.of_pods) < PODS_IN_ALL:
        writes.read()
        assert time.monotonic() < deadline, bench.operator.log.read_text()[-4000:]
        time.sleep(0.02)
    taken = writes.of_pods[PODS_IN_ALL - 1] - writes.of_pods[0]
    ours = PODS_IN_ALL / taken
    say(f"{ours:.0f} targets written a second, bare patches {bare:.0f}: {ours / bare:.2f} x (aim: at least 0.6)")
    say(
        f"CPU for each target, start included, {cpu_seconds(bench.operator.pid) / PODS_IN_ALL * 1000:.1f} ms, "
        f"for each bare patch {bare_cpu / BARE_PATCHES * 1000:.1f} ms"
    )
    bench.wait_quiet()


def test_nothing_to_change(bench: Bench, say: Say) -> None:
    bench.operator.stop()
    writes = bench.writes()
    started = time.perf_counter()
    bench.operator.start()
    bench.run(bench.operator.ready())
    taken, start_cpu = time.perf_counter() - started, cpu_seconds(bench.operator.pid)
    time.sleep(QUIET_SECONDS)
    used = cpu_seconds(bench.operator.pid)
    time.sleep(IDLE_SECONDS)
    idle = (cpu_seconds(bench.operator.pid) - used) / IDLE_SECONDS
    say(f"nothing to change: synced {taken:.1f} s after its start (aim: 15), {start_cpu:.1f} s of CPU")
    say(f"nothing to change: {writes.read()} writes (aim: 0)")
    say(f"{resident(bench.operator.pid) >> 20} MiB resident (aim: 350)")
    say(f"{idle:.1%} of a core when nothing happens (aim: 2)")
    assert writes.read() == 0


def test_an_arrival_on_a_full_gpu_while_others_come_and_go(bench: Bench, say: Say) -> None:
    writes = bench.writes()
    arrivals = bench.run(_arrivals(bench))
    shown = "/".join(f"{percentile(arrivals.taken, share) * 1000:.0f}" for share in (0.5, 0.9, 0.99))
    say(
        f"a Binding on a full GPU until all {MEMBERS + 1} members are patched: {shown} ms (p50/p90/p99 of {ARRIVALS}; "
        f"aim: p99 300), while {arrivals.churned:.0f} pods a second come and go elsewhere"
    )
    bench.wait_quiet()
    writes.read()
    patches = sum(count for name, count in writes.by_pod.items() if name.startswith((MEMBER, ARRIVAL)))
    say(f"{patches / arrivals.changes:.3f} patches for each target that changed (aim: at most 1)")


async def _bare_loop(bench: Bench) -> float:
    """Patches of a target's size a second, as many at once as the operator sends."""
    keys = (a.QUALITY_TARGET, a.VRAM_TARGET, a.PRESSURE, a.REVISION, a.GRANT)
    grant = json.dumps({"version": 1, "quality": "0.904", "vram": 9 * GIB, "revision": 1, "reason": "r" * 60})
    values = ("0.904", "9256Mi", "High", "1", grant)
    like_a_target = {key.replace("arbiter", "example"): value for key, value in zip(keys, values, strict=True)}
    body = {"metadata": {"annotations": like_a_target}}

    async def patch(number: int) -> None:
        await bench.client.patch(PODS, f"bound-{number}", body, namespace="default")

    started = time.perf_counter()
    await together((patch(number) for number in range(BARE_PATCHES)), at_once=CONCURRENT_WRITES)
    return BARE_PATCHES / (time.perf_counter() - started)


@dataclass(frozen=True)
class Arrivals:
    """Seconds from each Binding until everybody on that GPU had a new target, and how many targets changed in all.

    `churned` pods came elsewhere in each second.
    """

    taken: list[float]
    changes: int
    churned: float


async def _arrivals(bench: Bench) -> Arrivals:
    await bench.add_node(A_NODE)
    reflector = Reflector(bench.client, PODS, field_selector=f"spec.nodeName={A_NODE}")
    news = asyncio.Event()

    async def follow() -> None:
        async for _ in reflector:
            news.set()

    async def until(is_so: Callable[[list[Pod]], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so([*reflector.objects.values()]):
                news.clear()
                await news.wait()

    churn = Churn(bench)
    tasks = [asyncio.create_task(follow()), asyncio.create_task(churn.run())]
    try:
        for number in range(MEMBERS):
            await bench.client.create(PODS, _on_arrivals(f"{MEMBER}{number}"), namespace="default")
        await until(lambda pods: [_revision(pod) > 0 for pod in pods] == [True] * MEMBERS)
        taken, started = [], time.perf_counter()
        for number in range(ARRIVALS):
            taken.append(await _arrive(bench, f"{ARRIVAL}{number}", reflector, until))
        churned = churn.made / (time.perf_counter() - started)
        # Who arrives is told once, and a target is another one with each revision.
        changes = ARRIVALS + sum(map(_revision, reflector.objects.values()))
        return Arrivals(taken, changes, churned)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _arrive(
    bench: Bench,
    name: str,
    reflector: Reflector[Pod],
    until: Callable[[Callable[[list[Pod]], bool]], Awaitable[None]],
) -> float:
    before = {pod.uid: _revision(pod) for pod in reflector.objects.values()}

    def all_told(pods: list[Pod]) -> bool:
        return len(pods) == MEMBERS + 1 and all(_revision(pod) > before.get(pod.uid, 0) for pod in pods)

    pod = await bench.client.create(PODS, manifest(_member(name)), namespace="default")
    await bench.client.bind(
        ObjectKey("default", name), uid=pod.uid, node=NodeName(A_NODE), annotations={a.GPUS: f"{A_NODE}-gpu-0"}
    )
    started = time.perf_counter()
    await until(all_told)
    taken = time.perf_counter() - started
    with_it = {one.uid: _revision(one) for one in reflector.objects.values()}
    await bench.client.delete(PODS, name, namespace="default", grace=0)
    await until(lambda pods: len(pods) == MEMBERS and all(_revision(one) > with_it[one.uid] for one in pods))
    return taken


class Churn:
    """Pods that come and go on other nodes."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.made = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        chance, there = random.Random(1), deque[str]()
        while True:
            started = time.perf_counter()
            name, node = f"churn-{self.made}", chance.choice(self._bench.cluster.names)
            pod = manifest(a_waiting_pod(name), node=node, gpu=f"{node}-gpu-{chance.randrange(GPUS)}")
            await self._bench.client.create(PODS, pod, namespace="default")
            there.append(name)
            self.made += 1
            if len(there) > CHURN_PER_SECOND:
                await self._bench.client.delete(PODS, there.popleft(), namespace="default", grace=0)
            await asyncio.sleep(max(0.0, 1 / CHURN_PER_SECOND - (time.perf_counter() - started)))


def _member(name: str) -> PodBuilder:
    """All of them together want a third more than the GPU has."""
    return a_pod(name).sizes(full="4Gi", floor="1Gi")


def _on_arrivals(name: str) -> Any:
    return manifest(_member(name), node=A_NODE, gpu=f"{A_NODE}-gpu-0")


def _revision(pod: Pod) -> int:
    return int(pod.metadata.annotations.get(a.REVISION, "0"))
