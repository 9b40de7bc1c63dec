"""What the extender costs kube-scheduler, at the size of ARBITER_BENCH_NODES and ARBITER_BENCH_PODS.

Real API server and etcd, whole HTTP calls. The yardstick of a call is a server that answers with the names that it was
asked about and knows nothing; that of scheduling is the same kube-scheduler without an extender. Each test prints rows
of the tables in docs/performance.md; times of calls are p50/p90/p99 in ms.
"""

import asyncio
import os
import statistics
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

from arbiter_extender.decision import FilterAnswer
from arbiter_kube.api import SCHEDULER_NAME
from arbiter_kube.client import KubeClient
from hack.cluster import binaries
from hack.cluster.controlplane import ControlPlane
from hack.cluster.paths import REPOSITORY
from tests.bench.extender_schedulers import Run, kube_scheduler, schedule, turns
from tests.bench.extender_site import LAST, Cluster, Scheduler, cpu_seconds, percentile, resident
from tests.component.extender.support import Extender, free_port

pytestmark = pytest.mark.timeout(1800)

NODES = int(os.environ.get("ARBITER_BENCH_NODES", "100"))
BOUND = int(os.environ.get("ARBITER_BENCH_PODS", str(4 * NODES)))
LARGE = NODES > 1000
SAMPLE = min(NODES, 500 if LARGE else 420)
"""How many names kube-scheduler would send if it looked at a part of the nodes."""

CALLS = 1000
CHANGES = min(2000, BOUND)
WAITING = min(1000, 2 * NODES)
ROUNDS = 1 if LARGE else 3
TURNS = 20
PATIENCE = 300.0

ALL, BEST = FilterAnswer.ALL, FilterAnswer.BEST

Row = Callable[..., None]


@dataclass
class Bench:
    """A filled cluster, and the extender that follows it."""

    plane: ControlPlane
    cluster: Cluster
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    extenders: dict[FilterAnswer, Extender]
    answer: FilterAnswer | None = None

    def extender(self, answer: FilterAnswer) -> Extender:
        """The only one that runs, started where it does not."""
        if self.answer is not answer:
            self.stop()
            self.extenders[answer].start()
            self.answer = answer
            self.run(self.extenders[answer].ready(within=PATIENCE))
        return self.extenders[answer]

    def stop(self) -> None:
        if self.answer is not None:
            self.extenders[self.answer].stop()
            self.answer = None


@pytest.fixture
def row(capsys: pytest.CaptureFixture[str]) -> Row:
    """Prints a row of a table at once, since a run takes minutes."""

    def line(*cells: object) -> None:
        with capsys.disabled():
            print("\n|", " | ".join(map(str, cells)), "|", end="", flush=True)

    return line


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    binaries.ensure(["kube-scheduler", binaries.HELM])
    logs = tmp_path_factory.mktemp("extenders")
    with ControlPlane(tmp_path_factory.mktemp("plane")) as plane, asyncio.Runner() as runner:
        plane.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        client = runner.run(KubeClient.connect(plane.admin_kubeconfig, component="bench"))
        cluster = Cluster(client)
        runner.run(cluster.grow(nodes=NODES, pods=BOUND))
        extenders = {
            answer: Extender(plane.admin_kubeconfig, log=logs / answer, flags=("--filter-answer", answer))
            for answer in FilterAnswer
        }
        bench = Bench(plane, cluster, runner.run, extenders)
        yield bench
        bench.stop()
        runner.run(client.close())


def test_from_start_to_ready(bench: Bench, row: Row) -> None:
    bench.stop()
    started = time.perf_counter()
    extender = bench.extender(BEST)
    row("nodes, pods", "from start to ready", "resident memory then", "load average")
    row(_size(bench), f"{time.perf_counter() - started:.1f} s", _mebibytes(extender), _load())


@pytest.mark.parametrize("names", sorted({SAMPLE, NODES}))
def test_calls(bench: Bench, row: Row, names: int) -> None:
    _ask(bench, row, names)


def test_a_burst_of_changes(bench: Bench, row: Row) -> None:
    """Pods' demands are rewritten as fast as the API server takes it, first alone, then while kube-scheduler asks.

    It asks from the thread beside the one that rewrites, so the yardstick's times under the same burst are the floor.
    """
    extender = bench.extender(BEST)
    bench.run(bench.cluster.add_last_room())
    before = cpu_seconds(extender.pid)
    bench.run(bench.cluster.change_pods(CHANGES))
    time.sleep(1)
    used = cpu_seconds(extender.pid) - before

    scheduler = Scheduler(extender.address)
    started = time.perf_counter()
    taken = _meanwhile(bench, scheduler)
    changed = time.perf_counter()
    bench.run(bench.cluster.take_last_room())
    taking = time.perf_counter()
    while scheduler.ask("filter", scheduler.pod(), [LAST])[1]["NodeNames"]:
        assert time.perf_counter() < taking + 60, "The last change was never seen."
    seen = time.perf_counter()
    scheduler.close()
    with _yardstick() as yardstick:
        floor = _meanwhile(bench, yardstick)
    row(
        "nodes, pods",
        "changes",
        "extender's CPU",
        "API server took",
        "seen after the last",
        "filter",
        "yardstick",
        "load",
    )
    accepted, behind = f"{changed - started:.1f} s", f"{seen - taking:.2f} s"
    row(_size(bench), CHANGES, f"{used:.2f} s", accepted, behind, _shown(taken), _shown(floor), _load())


def test_pods_scheduled_per_second(bench: Bench, row: Row, tmp_path: Path) -> None:
    processes = ("extender", "kube-scheduler", "API server", "etcd")
    row(
        "nodes, pods",
        "filter answers",
        "scheduled a second",
        "",
        *(f"CPU of {who}" for who in processes),
        "load average",
    )
    runs: dict[FilterAnswer | None, list[Run]] = {None: [], BEST: [], ALL: []}
    for number in range(ROUNDS):
        for answer, done in runs.items():
            if answer is None:
                bench.stop()
            extender = None if answer is None else bench.extender(answer)
            name = f"bench-{answer or 'alone'}-{number}"
            run = schedule(bench.cluster, bench.plane, extender, name=name, count=WAITING, directory=tmp_path / name)
            done.append(bench.run(run))
    alone = statistics.median(run.rate for run in runs[None])
    for answer, done in runs.items():
        rates = ", ".join(f"{run.rate:.0f}" for run in done)
        times = statistics.median(run.rate for run in done) / alone
        cpu = [_mean_cpu(done, who) for who in processes]
        row(_size(bench), answer or "none", rates, f"{times:.2f}", *cpu, _load())


def test_freed_room_is_used(bench: Bench, row: Row, tmp_path: Path) -> None:
    """One node, one pod on it, more that wait for it: seconds from each deletion until the next pod is bound.

    kube-scheduler's back-off is its own; no operator wakes anybody.
    """
    extender = bench.extender(BEST)
    bench.run(bench.cluster.add_queue(TURNS + 1, scheduler=SCHEDULER_NAME))
    with kube_scheduler(bench.plane, extender, name=SCHEDULER_NAME, directory=tmp_path):
        waits = bench.run(turns(bench.cluster, TURNS))
    row("nodes, pods", "the next pod is bound after a deletion (p50)", f"the longest of {TURNS}", "load average")
    row(_size(bench), f"{percentile(waits, 0.5):.2f} s", f"{max(waits):.2f} s", _load())


@pytest.mark.skipif(LARGE, reason="it is about pods, not about nodes")
def test_four_times_the_pods_cost_a_call_no_more(bench: Bench, row: Row) -> None:
    before = _ask(bench, row, SAMPLE)
    bench.run(bench.cluster.grow(nodes=NODES, pods=4 * BOUND))
    bench.stop()
    after = _ask(bench, row, SAMPLE)
    row(
        "CPU of all and of best, to that of a quarter of the pods",
        *(f"{after[what] / before[what]:.2f}" for what in before),
    )
    row("resident memory", _mebibytes(bench.extender(BEST)))


def _ask(bench: Bench, row: Row, names: int) -> dict[str, float]:
    """Prints how long calls take; milliseconds of CPU for a pod's, by what filter answers."""
    cells, cpu = [], {}
    for answer in (ALL, BEST):
        extender = bench.extender(answer)
        before = cpu_seconds(extender.pid)
        filters, priorities = _times(extender, bench.cluster.names[:names])
        cpu[answer.value] = (cpu_seconds(extender.pid) - before) / CALLS * 1000
        cells += [_shown(filters), *([_shown(priorities)] if answer is ALL else [])]
    used = [f"{each:.2f} ms" for each in cpu.values()]
    asked = bench.cluster.names[:names]
    with _yardstick() as yardstick:
        floor = _shown([yardstick.ask("filter", yardstick.pod(), asked)[0] for _ in range(CALLS)])
    row("nodes, pods", "names", "filter all", "prioritize", "filter best", "yardstick", "CPU of all", "of best", "load")
    row(_size(bench), f"{names:,}", *cells, floor, *used, _load())
    return cpu


def _times(extender: Extender, names: list[str]) -> tuple[list[float], list[float]]:
    """Seconds of each filter, and of each prioritize that kube-scheduler would ask for."""
    scheduler, filters, priorities = Scheduler(extender.address), list[float](), list[float]()
    for _ in range(CALLS):
        pod = scheduler.pod()
        taken, answer = scheduler.ask("filter", pod, names)
        filters.append(taken)
        if len(answer["NodeNames"]) > 1:
            taken, scores = scheduler.ask("prioritize", pod, answer["NodeNames"])
            priorities.append(taken)
            assert sum(score["Score"] for score in scores) == 10
    scheduler.close()
    return filters, priorities


def _meanwhile(bench: Bench, scheduler: Scheduler) -> list[float]:
    """Seconds of each filter while pods are changed."""
    names, taken = bench.cluster.names[:SAMPLE], list[float]()
    changing = threading.Thread(target=lambda: asyncio.run(_change(bench)))
    changing.start()
    while changing.is_alive():
        taken.append(scheduler.ask("filter", scheduler.pod(), names)[0])
        time.sleep(0.005)
    return taken


@contextmanager
def _yardstick() -> Iterator[Scheduler]:
    """Asks the least that an extender can be."""
    port = free_port()
    server = subprocess.Popen([sys.executable, str(Path(__file__).parent / "extender_yardstick.py"), str(port)])
    try:
        scheduler = _connected(f"127.0.0.1:{port}")
        yield scheduler
        scheduler.close()
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


async def _change(bench: Bench) -> None:
    async with await KubeClient.connect(bench.plane.admin_kubeconfig, component="bench") as client:
        await bench.cluster.through(client).change_pods(CHANGES)


def _mean_cpu(runs: list[Run], who: str) -> str:
    spent = [run.cpu[who] for run in runs if who in run.cpu]
    return f"{statistics.mean(spent):.1f} ms" if spent else ""


def _size(bench: Bench) -> str:
    return f"{bench.cluster.nodes:,}, {bench.cluster.pods:,}"


def _shown(seconds: list[float]) -> str:
    return " / ".join(f"{percentile(seconds, share) * 1000:.2f}" for share in (0.5, 0.9, 0.99))


def _mebibytes(extender: Extender) -> str:
    return f"{resident(extender.pid) >> 20} MiB"


def _load() -> str:
    """How many processes wanted to run in the last minute."""
    return f"{os.getloadavg()[0]:.0f}"
