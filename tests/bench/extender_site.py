"""A cluster of written objects on a real API server, and a lean client that asks an extender as kube-scheduler does.

Nobody here runs a kubelet: nodes, reports and bound pods are what they would be, and stay as they were written.
"""

import asyncio
import json
import os
import random
import socket
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from arbiter.ids import PodUid
from arbiter.units import GIB, slices_for
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api import annotations as a
from arbiter_kube.api.gpunode import GrantOnNode, GrantState, SliceCount
from arbiter_kube.api.resources import GPU_NODES, NODES, PODS
from arbiter_kube.client import KubeClient, PatchType
from tests.unit.extender.builders import NodeBuilder, PodBuilder, a_node, a_pod

Json = Any  # what kube-scheduler's JSON holds

GPUS = 8
"""On every node, each of 24 GiB."""

SIZES = (("10Gi", "4Gi"), ("6Gi", "1843Mi"), ("12Gi", "3Gi"), ("20Gi", "8Gi"), ("8Gi", "8Gi"))
"""Full and floor of the kinds of pods there are."""

WIDE = 7
"""Every so many pods one asks for all GPUs of a node, which few nodes have free."""

QUEUE = "node-queue"
"""The one node of the pods of `Cluster.add_queue`."""

LAST = "node-last"
"""That of `Cluster.add_last_room`."""

_AT_ONCE = 48


@dataclass
class Cluster:
    """How many nodes and bound pods there are, and what room is left."""

    client: KubeClient
    nodes: int = 0
    pods: int = 0
    _free: dict[str, int] = field(default_factory=dict)
    _bound: dict[str, list["_Bound"]] = field(default_factory=dict)
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    def through(self, client: KubeClient) -> "Cluster":
        """The same cluster for another event loop."""
        return replace(self, client=client)

    @property
    def names(self) -> list[str]:
        """Of all nodes."""
        return [f"node-{number:05}" for number in range(self.nodes)]

    async def grow(self, *, nodes: int, pods: int) -> None:
        """Adds nodes and bound pods until there are so many; the agents report all of them."""
        added, self.nodes = range(self.nodes, nodes), nodes
        await together(self._add_node(self.names[number]) for number in added)
        for name in (self.names[number] for number in added):
            self._bound[name] = []
            self._free |= {f"{name}-gpu-{index}": 24 * GIB for index in range(GPUS)}
        new, self.pods = range(self.pods, pods), pods
        await together(self._add_bound_pod(number) for number in new)
        await together(self._report(name) for name in self.names)

    async def change_pods(self, count: int) -> None:
        """Rewrites the demands of so many bound pods, each of which changes its node's room."""
        everybody = [each for pods in self._bound.values() for each in pods]
        await together(self._change(each) for each in self._random.sample(everybody, count))

    async def add_waiting_pods(self, count: int, *, scheduler: str) -> None:
        """Pods that some scheduler has yet to bind."""
        pods = (manifest(a_waiting_pod(f"{scheduler}-{number}"), scheduler=scheduler) for number in range(count))
        await together(self.client.create(PODS, pod, namespace="default") for pod in pods)

    async def remove_waiting_pods(self, count: int, *, scheduler: str) -> None:
        """The same pods, bound or not."""
        names = (f"{scheduler}-{number}" for number in range(count))
        await together(self.client.delete(PODS, name, namespace="default", grace=0) for name in names)

    async def add_last_room(self) -> None:
        """A node that is empty until `take_last_room`."""
        await self._add_node(LAST)
        self._bound[LAST] = []
        await self._report(LAST)

    async def take_last_room(self) -> None:
        """A pod that takes all of that node: whoever sees it has seen all earlier changes of pods."""
        pod = a_pod("last").gpus(GPUS).sizes(full="24Gi", floor="24Gi")
        await self.client.create(PODS, manifest(pod, node=LAST), namespace="default")

    async def add_queue(self, count: int, *, scheduler: str) -> None:
        """Waiting pods that may go to one node only, where units suffice for two of them, but GPUs for one."""
        await self._add_node(QUEUE)
        self._bound[QUEUE] = []
        await self._report(QUEUE)
        wide = (a_pod(f"queue-{number}").gpus(5).sizes(full="14Gi", floor="14Gi") for number in range(count))
        for pod in wide:
            asked = manifest(pod, scheduler=scheduler)
            asked["spec"]["nodeSelector"] = {"example.com/node": QUEUE}
            await self.client.create(PODS, asked, namespace="default")

    async def _add_node(self, name: str) -> None:
        offered = {"cpu": "128", "memory": "1024Gi", "pods": "250", VRAM_RESOURCE: str(24 * GPUS)}
        labels = {f"example.com/label-{number}": f"value-{number}" for number in range(12)} | {"example.com/node": name}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready"}
        status = {"capacity": offered, "allocatable": offered, "conditions": [ready]}
        await self.client.create(NODES, {"metadata": {"name": name, "labels": labels}, "status": status})
        # Admission taints what is created; nobody here would lift that.
        await self.client.patch(NODES, name, {"spec": {"taints": None}})
        await self.client.create(GPU_NODES, {"metadata": {"name": name}})

    async def _add_bound_pod(self, number: int) -> None:
        builder = a_waiting_pod(f"bound-{number}", kind=number)
        floor = slices_for(builder.pod.demand.floor, unit=GIB) * GIB
        gpu = self._random.choice([*self._free])
        while self._free[gpu] < floor:
            gpu = self._random.choice([*self._free])
        self._free[gpu] -= floor
        node = gpu.partition("-gpu-")[0]
        made = await self.client.create(PODS, manifest(builder, node=node, gpu=gpu), namespace="default")
        self._bound[node].append(_Bound(builder, gpu, made.uid))

    async def _report(self, name: str) -> None:
        node: NodeBuilder = a_node(name)
        for index in range(GPUS):
            node = node.gpu(f"{name}-gpu-{index}", "24Gi")
        status = node.status.model_copy(
            update={
                "grants": [bound.grant for bound in self._bound[name]],
                "slices": [bound.slices for bound in self._bound[name]],
            }
        )
        await self.client.patch(GPU_NODES, name, {"status": status}, subresource="status", kind=PatchType.MERGE)

    async def _change(self, pod: "_Bound") -> None:
        demand = pod.builder.pod.demand
        other = pod.builder.sizes(full=str(demand.full + GIB), floor=str(demand.floor))
        annotations = {a.DEMAND: a.encode_demand(other.pod.frozen)}
        body = {"metadata": {"annotations": annotations}}
        await self.client.patch(PODS, pod.builder.pod.name, body, namespace="default")


@dataclass(frozen=True)
class _Bound:
    """A bound pod, as its node's agent reports it once it moves."""

    builder: PodBuilder
    gpu: str
    uid: PodUid

    @property
    def grant(self) -> GrantOnNode:
        floor = self.builder.pod.demand.floor
        return GrantOnNode(
            pod_uid=self.uid,
            namespace="default",
            pod=self.builder.pod.name,
            container="main",
            gpus=[self.gpu],
            granted=floor,
            held=floor,
            movable=True,
            state=GrantState.MOVABLE,
        )

    @property
    def slices(self) -> SliceCount:
        count = slices_for(self.builder.pod.demand.floor, unit=GIB)
        return SliceCount(namespace="default", pod=self.builder.pod.name, container="main", gpu=self.gpu, slices=count)


async def together(calls: Iterable[Awaitable[object]], *, at_once: int = _AT_ONCE) -> None:
    """Awaits all of them, so many at once."""
    limit = asyncio.Semaphore(at_once)

    async def one(call: Awaitable[object]) -> None:
        async with limit:
            await call

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(one(call))


def a_waiting_pod(name: str, *, kind: int | None = None) -> PodBuilder:
    """A pod of one of the kinds, chosen by its name where no number is given."""
    full, floor = SIZES[(sum(name.encode()) if kind is None else kind) % len(SIZES)]
    return a_pod(name).sizes(full=full, floor=floor)


def manifest(builder: PodBuilder, *, scheduler: str = "nobody", node: str = "", gpu: str = "") -> Json:
    limits = {VRAM_RESOURCE: str(builder.pod.slices), "cpu": "1", "memory": "1Gi"}
    variables = [{"name": f"VARIABLE_{number}", "value": "value"} for number in range(8)]
    container = {"name": "main", "image": "none", "env": variables, "resources": {"limits": limits}}
    annotations = {a.DEMAND: a.encode_demand(builder.pod.frozen)} | ({a.GPUS: gpu} if gpu else {})
    replicas_of = f"set-{sum(builder.pod.name.encode()) % 100}"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": replicas_of, "uid": replicas_of, "controller": True}
    return {
        "metadata": {
            "name": builder.pod.name,
            "labels": {"app": "bench"},
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": {"schedulerName": scheduler, "containers": [container]} | ({"nodeName": node} if node else {}),
    }


class Scheduler:
    """Asks an extender over one connection, one call after the other, as kube-scheduler does."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._asked = 0

    def close(self) -> None:
        self._socket.close()

    def pod(self) -> Json:
        """One that was never asked about before, as kube-scheduler sends it."""
        self._asked += 1
        name = f"asked-{self._asked}"
        builder = a_waiting_pod(name, kind=self._asked)
        if self._asked % WIDE == 0:
            builder = builder.gpus(GPUS).sizes(full="24Gi", floor="20Gi")
        pod = manifest(builder, scheduler="arbiter-scheduler")
        return pod | {"metadata": pod["metadata"] | {"namespace": "default", "uid": f"uid-{name}"}, "status": {}}

    def ask(self, verb: str, pod: Json, names: list[str]) -> tuple[float, Json]:
        """Seconds until the answer was there, and the answer."""
        body = json.dumps({"Pod": pod, "Nodes": None, "NodeNames": names}).encode()
        head = (
            f"POST /{verb} HTTP/1.1\r\nHost: e\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        started = time.perf_counter()
        self._socket.sendall(head.encode() + body)
        answer = self._receive()
        return time.perf_counter() - started, json.loads(answer)

    def _receive(self) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), received
        [length] = [
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        pieces, missing = [body], length - len(body)
        while missing > 0:
            pieces.append(self._more())
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _more(self) -> bytes:
        piece = self._socket.recv(1 << 20)
        assert piece, "The extender ended the connection."
        return piece


def resident(pid: int) -> int:
    """Bytes of memory that a process has now."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is not below this share of them."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
