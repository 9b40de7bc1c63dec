"""The busiest part of a recorded list of pods, at 100 times its speed, on simulated nodes with the operator itself.

The data are those of `arbiter simulate` (docs/library.md says where to get them): ARBITER_OPENB names the folder.
ARBITER_BENCH_REPLAY_SECONDS says how long the replay lasts. The extender's part is played by its placement, the
agents' by their engine (`simulated_nodes`), the API server's by the one in memory. Converged is a node whose pods a
fresh look would tell nothing new; every use of memory by a container is held against its GPU at once.
"""

import asyncio
import csv
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from arbiter.ids import NodeName, PodUid
from arbiter.placement import Newcomer, Placement
from arbiter.units import GIB, MIB
from arbiter.workload import Priority
from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import Pod
from arbiter_kube.api.pods import gpu_pod
from arbiter_kube.api.resources import GPU_NODES, NODES, PODS
from arbiter_kube.client import KubeClient, Reflector
from arbiter_operator.cluster import Cluster
from arbiter_operator.node import room
from arbiter_operator.targets import plan
from tests.bench.extender_site import cpu_seconds, manifest, percentile
from tests.bench.operator_site import Bench, stood_in_for
from tests.bench.simulated_nodes import SimulatedNode
from tests.unit.extender.builders import PodBuilder, a_pod

pytestmark = pytest.mark.timeout(1800)

DATA = Path(os.environ.get("ARBITER_OPENB", "build/openb"))
SECONDS = float(os.environ.get("ARBITER_BENCH_REPLAY_SECONDS", "60"))
SPEED = 100.0
USABLE = 24 * GIB
ELASTIC = 0.5
"""Everybody's floor, of what the list says that it uses."""

CROWDED = 0.6
"""So many GPUs there are for each that is wanted at the busiest moment."""

PRIORITIES = {"LS": "High", "Guaranteed": "Normal", "Burstable": "Normal", "BE": "Background"}
SETTLE_SECONDS = 60.0


@dataclass(frozen=True)
class Recorded:
    """One pod of the list: when it came and left (s), how many GPUs it uses and how much of each, of 1000."""

    name: str
    came: float
    left: float
    gpus: int
    share: int
    quality_of_service: str

    @property
    def builder(self) -> PodBuilder:
        """As a pod of the cluster."""
        full = USABLE * self.share // 1000 // MIB
        sized = a_pod(self.name).sizes(full=f"{full}Mi", floor=f"{int(full * ELASTIC)}Mi")
        return sized.gpus(self.gpus).priority(Priority(PRIORITIES[self.quality_of_service]))


@dataclass(frozen=True)
class Part:
    """The pods of a part of the list that begins at `start`, and the sizes of enough nodes for them."""

    start: float
    pods: list[Recorded]
    nodes: list[int]


def recorded() -> list[Recorded]:
    with (DATA / "openb_pod_list_default.csv").open() as file:
        return [
            Recorded(
                name=row["name"],
                came=float(row["creation_time"]),
                left=float(row["deletion_time"]),
                gpus=int(row["num_gpu"]),
                share=int(row["gpu_milli"]),
                quality_of_service=row["qos"],
            )
            for row in csv.DictReader(file)
            if int(row["num_gpu"])
        ]


def busiest_part(pods: list[Recorded]) -> Part:
    lasting = SECONDS * SPEED
    moments = sorted({pod.came for pod in pods})

    def changes(start: float) -> int:
        return sum((start <= pod.came < start + lasting) + (start <= pod.left < start + lasting) for pod in pods)

    start = max(moments[:: max(1, len(moments) // 500)], key=changes)
    here = [pod for pod in pods if pod.came < start + lasting and pod.left > start]
    return Part(start, here, enough_nodes(here))


def enough_nodes(pods: list[Recorded]) -> list[int]:
    """The first nodes of the list, until they have the wanted share of the busiest moment's GPUs."""
    wanted = max(
        sum(pod.gpus * pod.share for pod in pods if pod.came <= at < pod.left) for at in {pod.came for pod in pods}
    )
    largest = max(pod.gpus for pod in pods)
    with (DATA / "openb_node_list_gpu_node.csv").open() as file:
        sizes = [int(row["gpu"]) for row in csv.DictReader(file)]
    taken = [next(size for size in sizes if size >= largest)]
    for size in sizes:
        if sum(taken) * 1000 >= wanted * CROWDED:
            break
        taken.append(size)
    return taken


@dataclass
class Replay:
    """The cluster as the replay sees it, and since when each node has not converged."""

    client: KubeClient
    nodes: dict[NodeName, SimulatedNode]
    seen: Cluster = field(default_factory=lambda: Cluster(unit=GIB))
    refused: int = 0
    taken: list[float] = field(default_factory=list)
    """Seconds that each change took to converge."""
    qualities: set[str] = field(default_factory=set)
    """All that anybody was ever told."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _placement: Placement = field(default_factory=Placement)
    _alive: dict[str, Pod] = field(default_factory=dict)
    _leaving: dict[PodUid, float] = field(default_factory=dict)
    _open: dict[NodeName, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def follow_pods(self) -> None:
        """What the agents' watches, and ours, show."""
        async for _ in Reflector(self.client, PODS).applying(applied=self._applied, deleted=self._deleted):
            self._look()

    async def follow_reports(self) -> None:
        """What the agents say."""
        reports = Reflector(self.client, GPU_NODES)
        async for _ in reports.applying(applied=self.seen.report_applied, deleted=self.seen.report_deleted):
            self._look()

    async def come(self, pod: Recorded) -> None:
        """Places a pod and binds it, or leaves it out."""
        for state in filter(None, map(self.seen.node_state, self.nodes)):
            self._placement.put(room(state, unit=GIB))
        choice = self._placement.choose(Newcomer(demand=pod.builder.pod.demand))
        if choice is None:
            self.refused += 1
            return
        asked_at = time.perf_counter()
        body = manifest(pod.builder, node=choice.node, gpu=a.encode_gpus(choice.gpus))
        made = self._alive[pod.name] = await self.client.create(PODS, body, namespace="default")
        self._applied(made)
        self._open[choice.node].append(asked_at)

    async def leave(self, pod: Recorded) -> None:
        """Ends a pod, if it was placed."""
        if (known := self._alive.pop(pod.name, None)) is not None:
            self._leaving[known.uid] = time.perf_counter()
            await self.client.delete(PODS, pod.name, namespace="default", grace=0)

    @property
    def is_converged(self) -> bool:
        """Whether nothing is left to be done."""
        return not self._leaving and not self._open

    def _applied(self, pod: Pod) -> None:
        self.seen.pod_applied(pod)
        seen = gpu_pod(pod, unit=GIB)
        if seen is not None and seen.node is not None:
            self.nodes[seen.node].applied(seen)
            self.qualities.update([] if seen.grant is None else [seen.grant.quality])

    def _deleted(self, pod: Pod) -> None:
        self.seen.pod_deleted(pod)
        if pod.node is not None:
            self.nodes[pod.node].deleted(pod.uid)
            self._open[pod.node].append(self._leaving.pop(pod.uid))

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Returns once that is so."""
        async with asyncio.timeout(SETTLE_SECONDS):
            while not is_so():
                self._news.clear()
                await self._news.wait()

    def _look(self) -> None:
        """Closes what has converged: its agent tells of those who are there, and they would be told nothing new."""
        self._news.set()
        for name in [*self._open]:
            state = self.seen.node_state(name)
            assert state is not None
            agent_knows = {grant.pod_uid for grant in state.report.grants} == {pod.uid for pod in state.pods}
            if agent_knows and not plan(state).changes:
                now = time.perf_counter()
                self.taken += [now - since for since in self._open.pop(name)]


def test_a_replay_of_recorded_arrivals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is no folder: docs/library.md says where to get the recorded pods")
    part = busiest_part(recorded())
    with stood_in_for(tmp_path) as bench:
        bench.operator.start()
        bench.run(bench.operator.ready())
        used = cpu_seconds(bench.operator.pid)
        replay = bench.run(_replay(bench, part))
        used = cpu_seconds(bench.operator.pid) - used
    shown = "/".join(f"{percentile(replay.taken, share) * 1000:.0f}" for share in (0.5, 0.99, 1.0))
    overuses = [overuse for node in replay.nodes.values() for overuse in node.overuses]
    each = used / len(replay.taken) * 1000
    with capsys.disabled():
        print(
            f"\n{len(replay.taken)} changes in {SECONDS:g} s on {len(part.nodes)} nodes with {sum(part.nodes)} GPUs, "
            f"targets down to {min(replay.qualities)}, {replay.refused} pods found no room: converged after "
            f"{sum(replay.taken) / len(replay.taken) * 1000:.0f} ms on average ({shown} ms p50/p99/longest), "
            f"{each:.1f} ms of the operator's CPU for each; {len(overuses)} uses of more than a GPU has"
        )
    assert overuses == []


async def _replay(bench: Bench, part: Part) -> Replay:
    names = [NodeName(f"node-{number:04}") for number in range(len(part.nodes))]
    nodes = {
        name: SimulatedNode(bench.client, name, gpus=gpus, usable=USABLE)
        for name, gpus in zip(names, part.nodes, strict=True)
    }
    for name in names:
        await bench.client.create(NODES, {"metadata": {"name": name}})
        await bench.client.create(GPU_NODES, {"metadata": {"name": name}})
    replay = Replay(bench.client, nodes)
    async with asyncio.timeout(SECONDS + 2 * SETTLE_SECONDS), asyncio.TaskGroup() as group:
        followers = [
            *(group.create_task(node.report()) for node in nodes.values()),
            group.create_task(replay.follow_pods()),
            group.create_task(replay.follow_reports()),
        ]
        await replay.until(lambda: len(replay.seen.reports) == len(nodes))
        for pod in (pod for pod in part.pods if pod.came < part.start):
            await replay.come(pod)
        await replay.until(lambda: replay.is_converged)
        replay.taken.clear()
        await _play(replay, part)
        await replay.until(lambda: replay.is_converged)
        for task in followers:
            task.cancel()
    return replay


async def _play(replay: Replay, part: Part) -> None:
    """Everything at its time, or as soon as what came before it has been asked for."""
    end = part.start + SECONDS * SPEED
    changes = sorted(
        [
            *((pod.came, "comes", pod) for pod in part.pods if part.start <= pod.came < end),
            *((pod.left, "leaves", pod) for pod in part.pods if part.start <= pod.left < end),
        ],
        key=lambda change: change[0],
    )
    began = time.perf_counter()
    for at, what, pod in changes:
        await asyncio.sleep(max(0.0, began + (at - part.start) / SPEED - time.perf_counter()))
        await (replay.come(pod) if what == "comes" else replay.leave(pod))
