"""How long kube-scheduler waits for the extender, in a cluster of written objects on a real API server.

ARBITER_BENCH_NODES and ARBITER_BENCH_PODS say how large the cluster is, ARBITER_BENCH_FILTER_ANSWER=all has filter name
all nodes that fit. Times are those of whole HTTP calls. The yardstick of a call is a server that answers with the names
that it was asked about and knows nothing; the yardstick of scheduling is the same kube-scheduler without an extender.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from arbiter_kube.api import SCHEDULER_NAME
from arbiter_kube.api.resources import PODS
from arbiter_kube.client import KubeClient
from arbiter_kube.client.client import Selection
from arbiter_kube.client.store import identity_of
from hack.cluster import binaries
from hack.cluster.controlplane import ControlPlane
from hack.cluster.installation import scheduler_config
from hack.cluster.paths import REPOSITORY
from hack.cluster.process import Processes
from tests.bench.extender_site import QUEUE, Cluster, Scheduler, cpu_seconds, percentile, resident
from tests.component.extender.support import Extender, eventually, free_port

pytestmark = pytest.mark.timeout(1800)

NODES = int(os.environ.get("ARBITER_BENCH_NODES", "100"))
BOUND = int(os.environ.get("ARBITER_BENCH_PODS", str(4 * NODES)))
ANSWER = os.environ.get("ARBITER_BENCH_FILTER_ANSWER", "best")
CALLS = 1000
TURNS = 20
SAMPLE = min(NODES, 500 if NODES >= 5000 else 420)
"""How many names kube-scheduler would send if it looked at a part of the nodes."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """A filled cluster, and the extender that follows it."""

    plane: ControlPlane
    cluster: Cluster
    extender: Extender
    run: Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Prints a figure at once, since a run takes minutes."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\nextender, {NODES} nodes, {text}", end="", flush=True)

    return line


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    binaries.ensure(["kube-scheduler"])
    with ControlPlane(tmp_path_factory.mktemp("plane")) as plane, asyncio.Runner() as runner:
        plane.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        client = runner.run(KubeClient.connect(plane.admin_kubeconfig, component="bench"))
        cluster = Cluster(client)
        runner.run(cluster.grow(nodes=NODES, pods=BOUND))
        log = tmp_path_factory.mktemp("extender") / "log"
        extender = Extender(plane.admin_kubeconfig, log=log, flags=("--filter-answer", ANSWER))
        extender.start()
        runner.run(extender.ready())
        yield Bench(plane, cluster, extender, runner.run)
        extender.stop()
        runner.run(client.close())


def test_from_start_to_ready(bench: Bench, say: Say) -> None:
    bench.extender.stop()
    started = time.perf_counter()
    bench.extender.start()
    bench.run(bench.extender.ready())
    say(f"{BOUND} pods: ready {time.perf_counter() - started:.1f} s after its start, {_mebibytes(bench)} MiB resident")


@pytest.mark.parametrize("names", sorted({SAMPLE, NODES}))
def test_filter_and_prioritize(bench: Bench, say: Say, names: int) -> None:
    floor = _yardstick(bench.cluster.names[:names])
    say(f"{BOUND} pods, {names} names: {_times(bench, names)}; yardstick {_shown(floor)}")


def test_a_burst_of_changes(bench: Bench, say: Say) -> None:
    """Pods' demands are rewritten as fast as the API server takes it, while kube-scheduler asks."""
    count, before = min(2000, BOUND), cpu_seconds(bench.extender.pid)
    bench.run(bench.cluster.change_pods(count))
    time.sleep(1)
    say(f"{count} changed pods: {cpu_seconds(bench.extender.pid) - before:.2f} s of the extender's CPU")

    changing = threading.Thread(target=lambda: asyncio.run(_change(bench, count)))
    changing.start()
    taken: list[float] = []
    scheduler, names = Scheduler(bench.extender.address), bench.cluster.names[:SAMPLE]
    started = time.perf_counter()
    while changing.is_alive():
        taken.append(scheduler.ask("filter", scheduler.pod(), names)[0])
        time.sleep(0.005)
    say(f"{count} changes in {time.perf_counter() - started:.1f} s: filter meanwhile {_shown(taken)}")
    scheduler.close()


def test_pods_scheduled_per_second(bench: Bench, say: Say, tmp_path: Path) -> None:
    count = min(1000, 2 * NODES)
    alone = _schedule(bench, "alone", count, tmp_path)
    before = cpu_seconds(bench.extender.pid)
    with_us = _schedule(bench, SCHEDULER_NAME, count, tmp_path)
    used = (cpu_seconds(bench.extender.pid) - before) / count * 1000
    say(
        f"{count} pods: {with_us:.0f} scheduled a second, {alone:.0f} without an extender: {with_us / alone:.2f} x; "
        f"{used:.1f} ms of the extender's CPU for each"
    )


def test_freed_room_is_used(bench: Bench, say: Say, tmp_path: Path) -> None:
    """One node, one pod on it, more that wait for it: seconds from each deletion until the next pod is bound.

    kube-scheduler's back-off is its own; no operator wakes anybody.
    """
    bench.run(bench.cluster.add_queue(TURNS + 1, scheduler=SCHEDULER_NAME))
    with _kube_scheduler(bench, SCHEDULER_NAME, tmp_path):
        waits = bench.run(_turns(bench))
    shown = "/".join(f"{percentile(waits, share):.3f}" for share in (0.5, 0.9, 1.0))
    say(f"{BOUND} pods: the next pod is bound {shown} s after a deletion (p50/p90/longest of {len(waits)})")


def test_four_times_the_pods_cost_a_call_no_more(bench: Bench, say: Say) -> None:
    before = _times(bench, SAMPLE)
    bench.run(bench.cluster.grow(nodes=NODES, pods=4 * BOUND))
    bench.extender.stop()
    bench.extender.start()
    bench.run(bench.extender.ready())
    say(f"{BOUND} pods: {before}")
    say(f"{4 * BOUND} pods: {_times(bench, SAMPLE)}, {_mebibytes(bench)} MiB resident")


def _times(bench: Bench, names: int) -> str:
    scheduler = Scheduler(bench.extender.address)
    filters, priorities = [], []
    passed, before = 0, cpu_seconds(bench.extender.pid)
    for _ in range(CALLS):
        pod = scheduler.pod()
        taken, answer = scheduler.ask("filter", pod, bench.cluster.names[:names])
        filters.append(taken)
        passed += len(answer["NodeNames"])
        if len(answer["NodeNames"]) > 1:
            taken, scores = scheduler.ask("prioritize", pod, answer["NodeNames"])
            priorities.append(taken)
            assert sum(score["Score"] for score in scores) == 10
    scheduler.close()
    used = (cpu_seconds(bench.extender.pid) - before) / CALLS * 1000
    calls = f"filter {_shown(filters)}, prioritize {_shown(priorities)}"
    return f"{calls} ({passed / CALLS:.0f} nodes pass), {used:.2f} ms of CPU for each pod"


def _yardstick(names: list[str]) -> list[float]:
    port = free_port()
    server = subprocess.Popen([sys.executable, str(Path(__file__).parent / "extender_yardstick.py"), str(port)])
    try:
        scheduler = _connected(f"127.0.0.1:{port}")
        taken = [scheduler.ask("filter", scheduler.pod(), names)[0] for _ in range(CALLS)]
        scheduler.close()
        return taken
    finally:
        server.terminate()
        server.wait()


def _connected(address: str) -> Scheduler:
    give_up = time.monotonic() + 30
    while True:
        try:
            return Scheduler(address)
        except ConnectionRefusedError:
            assert time.monotonic() < give_up, f"Nobody listens on {address}."
            time.sleep(0.05)


async def _change(bench: Bench, count: int) -> None:
    async with await KubeClient.connect(bench.plane.admin_kubeconfig, component="bench") as client:
        await bench.cluster.through(client).change_pods(count)


def _schedule(bench: Bench, scheduler: str, count: int, directory: Path) -> float:
    """Pods per second from the first Binding to the last; all wait when kube-scheduler starts."""
    bench.run(bench.cluster.add_waiting_pods(count, scheduler=scheduler))
    with _kube_scheduler(bench, scheduler, directory):
        return float(bench.run(_rate(bench, scheduler, count)))


@contextmanager
def _kube_scheduler(bench: Bench, scheduler: str, directory: Path) -> Iterator[None]:
    config = yaml.safe_load(scheduler_config(bench.plane.admin_kubeconfig))
    config["profiles"] = [{"schedulerName": scheduler}]
    # Its own limit of 50 calls a second would hide everything else; the extender binds with its own connection.
    config["clientConnection"] |= {"qps": 2000, "burst": 4000}
    config["extenders"][0]["urlPrefix"] = f"http://{bench.extender.address}"
    if scheduler != SCHEDULER_NAME:
        del config["extenders"]
    (directory / f"{scheduler}.yaml").write_text(yaml.safe_dump(config))
    processes = Processes(directory, die_with_parent=True)
    program = str(binaries.directory() / "kube-scheduler")
    processes.start("kube-scheduler", (program, f"--config={directory / f'{scheduler}.yaml'}", "--secure-port=0"))
    try:
        yield
    finally:
        processes.stop("kube-scheduler")


async def _turns(bench: Bench) -> list[float]:
    """How long each pod waited for the end of the one before it."""
    waits, last = [], await _at_the_end(bench)
    for _ in range(TURNS):
        await asyncio.sleep(0.5)  # until all others have been refused, and wait
        started = time.perf_counter()
        await bench.cluster.client.delete(PODS, last, namespace="default", grace=0)
        last = await _at_the_end(bench)
        waits.append(time.perf_counter() - started)
    return waits


async def _at_the_end(bench: Bench) -> str:
    """The pod that the queue has led to its node."""
    there = Selection(field_selector=f"spec.nodeName={QUEUE}")

    async def look() -> str | None:
        items = (await bench.cluster.client.page(PODS, there, limit=1)).items
        return identity_of(items[0]).name if items else None

    return await eventually(look, f"pod on {QUEUE}")


async def _rate(bench: Bench, scheduler: str, count: int) -> float:
    mine = f"spec.schedulerName={scheduler}"
    async with asyncio.timeout(600):
        await _until(bench, lambda bound, _: bound, mine)
        started = time.perf_counter()
        await _until(bench, lambda _, waiting: not waiting, mine)
        return count / (time.perf_counter() - started)


async def _until(bench: Bench, is_so: Callable[[bool, bool], bool], selector: str) -> None:
    """Waits until the API server says so of whether any of the selected pods are bound, and whether any wait."""
    while True:
        bound = await _any(bench, f"{selector},spec.nodeName!=")
        if is_so(bound, await _any(bench, f"{selector},spec.nodeName=")):
            return
        await asyncio.sleep(0.05)


async def _any(bench: Bench, selector: str) -> bool:
    return bool((await bench.cluster.client.page(PODS, Selection(field_selector=selector), limit=1)).items)


def _shown(seconds: list[float]) -> str:
    if not seconds:
        return "not asked"
    return "/".join(f"{percentile(seconds, share) * 1000:.2f}" for share in (0.5, 0.9, 0.99)) + " ms (p50/p90/p99)"


def _mebibytes(bench: Bench) -> int:
    return resident(bench.extender.pid) >> 20
