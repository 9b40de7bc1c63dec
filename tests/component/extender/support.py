"""A running extender, a cluster of written objects, and a way to the API server on which answers can be lost."""

import asyncio
import io
import json
import secrets
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yaml
from aiohttp import web

from arbiter.units import GIB, slices_for
from arbiter_kube.api import SCHEDULER_NAME, VRAM_RESOURCE
from arbiter_kube.api import annotations as a
from arbiter_kube.api.annotations import FrozenDemand
from arbiter_kube.api.objects import Event, ObjectKey, Pod
from arbiter_kube.api.resources import EVENTS, GPU_NODES, NAMESPACES, NODES, PODS
from arbiter_kube.client import KubeClient, NotFound, PatchType
from tests.support.patience import PATIENCE
from tests.support.program import Program
from tests.unit.extender.builders import NodeBuilder, PodBuilder

T = TypeVar("T")


Json = Any  # what kube-scheduler's JSON holds


async def eventually(look: Callable[[], Awaitable[T | None]], what: str, *, within: float = PATIENCE) -> T:
    """What `look` finds once it finds something, asked again and again."""
    try:
        async with asyncio.timeout(within):
            while True:
                if (found := await look()) is not None:
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"No {what} within {within:g} s.") from None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Extender:
    """`arbiter extender` as a process of its own; it may be killed and started again on the same ports."""

    def __init__(self, kubeconfig: Path, *, log: Path, flags: Sequence[str] = ()) -> None:
        self.log = log
        self._flags = tuple(flags)
        self.address = f"127.0.0.1:{free_port()}"
        self.health = f"127.0.0.1:{free_port()}"
        self._kubeconfig = kubeconfig
        self._process: Program | None = None

    def start(self) -> None:
        self._process = Program(
            *("extender", "--kubeconfig", str(self._kubeconfig)),
            *("--bind", self.address, "--health-bind", self.health),
            *self._flags,
            log=self.log,
        )

    async def ready(self, *, within: float = PATIENCE) -> "Extender":
        async def look() -> bool | None:
            status, _ = await self.get(f"http://{self.health}/readyz")
            return True if status == 200 else None

        await eventually(look, f"ready extender; its log:\n{self.log.read_text()}", within=within)
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill(patience=PATIENCE)

    def stop(self) -> int:
        """Asks it to end; its exit code."""
        assert self._process is not None
        return self._process.stop(patience=PATIENCE)

    async def post(self, verb: str, body: Json, *, raw: bytes | None = None) -> tuple[int, Json]:
        """Status, and the answer: JSON of a 200, else text."""
        data = io.BytesIO(json.dumps(body).encode() if raw is None else raw)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://{self.address}/{verb}", data=data) as answer,
        ):
            return answer.status, await answer.json() if answer.status == 200 else await answer.text()

    async def get(self, url: str) -> tuple[int, str]:
        """Status and text; status 0 while nobody listens."""
        try:
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                return response.status, await response.text()
        except aiohttp.ClientConnectionError:
            return 0, ""

    async def knows(self, *nodes: str) -> None:
        """Waits until its watch has shown the GPUs of these nodes: a report that comes later wakes no pod."""

        async def look() -> bool | None:
            _, text = await self.get(f"http://{self.address}/debug/ledger")
            reported = {name for name, view in json.loads(text).items() if view["room"]["gpus"]}
            return True if {*nodes} <= reported else None

        await eventually(look, "report of the nodes' GPUs")

    async def claims(self, node: str) -> list[tuple[str, str]]:
        """Pods on the node and how firmly, as the ledger has them."""
        _, text = await self.get(f"http://{self.address}/debug/ledger")
        there: Json = json.loads(text).get(node, {"claims": []})
        return [(claim["pod"], claim["standing"]) for claim in there["claims"]]

    async def filter(self, pod: Json, *nodes: str) -> Json:
        status, answer = await self.post("filter", {"Pod": pod, "Nodes": None, "NodeNames": nodes})
        assert status == 200, answer
        return answer

    async def prioritize(self, pod: Json, *nodes: str) -> Json:
        status, answer = await self.post("prioritize", {"Pod": pod, "Nodes": None, "NodeNames": nodes})
        assert status == 200, answer
        return answer

    async def bind(self, pod: Json, node: str) -> str:
        """The error, empty when it is bound."""
        metadata = pod["metadata"]
        args = {"PodName": metadata["name"], "PodNamespace": metadata["namespace"], "PodUID": metadata["uid"]}
        status, answer = await self.post("bind", args | {"Node": node})
        assert status == 200, answer
        error: str = answer["Error"]
        return error


class Site:
    """Objects of one test, in a namespace and with nodes of its own."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client
        self.namespace = f"test-{secrets.token_hex(4)}"
        self._nodes: list[str] = []
        self._woken_at = 0.0

    async def open(self) -> None:
        await self.client.create(NAMESPACES, {"metadata": {"name": self.namespace}})

    async def close(self) -> None:
        for pod in await self.pods():
            await self.delete(pod.metadata.name)
        for name in self._nodes:
            await self.client.delete(NODES, name)
            await self.client.delete(GPU_NODES, name)

    async def add_node(self, *sizes: str) -> str:
        """A Ready node with GPUs of these usable sizes, `<node>-0` and so on; its name."""
        name = f"node-{secrets.token_hex(4)}"
        builder = NodeBuilder(name=name)
        for index, size in enumerate(sizes):
            builder = builder.gpu(f"{name}-{index}", size)
        self._nodes.append(name)
        await self.client.create(NODES, {"metadata": {"name": name}})
        # Admission taints what is created; nobody here would lift that.
        await self.client.patch(NODES, name, {"spec": {"taints": None}})
        slices = sum(gpu.usable // GIB for gpu in builder.status.gpus)
        offered = {"cpu": "64", "memory": "256Gi", "pods": "200", VRAM_RESOURCE: str(slices)}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        status = {"status": {"capacity": offered, "allocatable": offered, "conditions": [ready]}}
        await self.client.patch(NODES, name, status, subresource="status")
        await self.client.create(GPU_NODES, {"metadata": {"name": name}})
        await self.report(builder)
        return name

    async def report(self, node: NodeBuilder) -> None:
        """What the node's agent says from now on."""
        status = {"status": node.status}
        await self.client.patch(GPU_NODES, node.name, status, subresource="status", kind=PatchType.MERGE)

    async def add_pod(self, builder: PodBuilder, *, scheduler: str = "nobody") -> Json:
        """The pod as kube-scheduler would send it."""
        demand = builder.pod.demand
        slices = slices_for(demand.floor, unit=GIB) * demand.gpu_count
        frozen = a.encode_demand(FrozenDemand(demand=demand, container="main"))
        limits = {VRAM_RESOURCE: str(slices)}
        return await self._create(builder.pod.name, {a.DEMAND: frozen}, limits=limits, scheduler=scheduler)

    async def add_plain_pod(self, name: str) -> Json:
        return await self._create(name, {}, limits={}, scheduler="nobody")

    async def add_odd_pod(self, name: str, *, slices: int, node: str = "", mirror: bool = False) -> None:
        """A pod with the resource alone: for kube-scheduler, or bound to a node by whoever made it, a kubelet maybe."""
        annotations = {"kubernetes.io/config.mirror": name} if mirror else {}
        limits = {VRAM_RESOURCE: str(slices)}
        scheduler = "default-scheduler" if node else SCHEDULER_NAME
        await self._create(name, annotations, limits=limits, scheduler=scheduler, node=node)

    async def _create(
        self, name: str, annotations: dict[str, str], *, limits: dict[str, str], scheduler: str, node: str = ""
    ) -> Json:
        container = {"name": "main", "image": "none", "resources": {"limits": limits}}
        metadata = {"name": name, "annotations": annotations}
        body = {
            "metadata": metadata,
            "spec": {"schedulerName": scheduler, "containers": [container]} | ({"nodeName": node} if node else {}),
        }
        made = await self.client.create(PODS, body, namespace=self.namespace)
        return {**body, "metadata": {**metadata, "namespace": self.namespace, "uid": made.uid}, "status": {}}

    def key(self, name: str) -> ObjectKey:
        return ObjectKey(self.namespace, name)

    async def pod(self, name: str) -> Pod:
        return await self.client.get(PODS, name, namespace=self.namespace)

    async def pods(self) -> tuple[Pod, ...]:
        return await self.client.list(PODS, namespace=self.namespace)

    async def wake(self) -> None:
        """What the operator does for waiting pods: the extender's watch may be behind kube-scheduler's own.

        Each is woken at most once a second.
        """
        now = asyncio.get_running_loop().time()
        if now - self._woken_at < 1:
            return
        self._woken_at = now
        for pod in await self.pods():
            if where(pod) is None:
                woken = {"metadata": {"annotations": {a.WAKE: f"{now}"}}}
                await self.client.patch(PODS, pod.metadata.name, woken, namespace=self.namespace)

    async def bound(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Its node and GPUs, once it is bound."""

        async def look() -> tuple[str, tuple[str, ...]] | None:
            await self.wake()
            return where(await self.pod(name))

        return await eventually(look, f"binding of {name}")

    async def places(self) -> Counter[tuple[str, tuple[str, ...]]]:
        """How many pods there are on which GPUs of which node."""
        return Counter(place for pod in await self.pods() if (place := where(pod)) is not None)

    async def refusal(self, name: str) -> str:
        """What kube-scheduler says of a pod that it finds no node for."""

        async def look() -> str | None:
            events = await self.events(name, "FailedScheduling")
            return events[0].message if events else None

        return await eventually(look, f"refusal of {name}")

    async def finish(self, name: str) -> None:
        """Its containers have ended."""
        status = {"status": {"phase": "Succeeded"}}
        await self.client.patch(PODS, name, status, namespace=self.namespace, subresource="status")

    async def delete(self, name: str) -> None:
        try:
            await self.client.delete(PODS, name, namespace=self.namespace, grace=0)
        except NotFound:
            return

    async def events(self, name: str, reason: str) -> list[Event]:
        return [
            event
            for event in await self.client.list(EVENTS, namespace=self.namespace)
            if event.reason == reason and event.involved_object.name == name
        ]


def where(pod: Pod) -> tuple[str, tuple[str, ...]] | None:
    """Node and GPUs of a pod; None while it waits."""
    return (pod.node, a.decode_gpus(pod.metadata.annotations.get(a.GPUS, ""))) if pod.node else None


_EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}

Reply = Callable[[], Awaitable[bool]]
"""Called when a Binding has been carried out; says whether its answer arrives."""


class LossyApi:
    """The API server over plain HTTP, with the administrator's rights, where answers to Bindings can be lost."""

    def __init__(self, server: str, tls: ssl.SSLContext) -> None:
        self._server = server
        self._tls = tls
        self.reply: Reply = self._arrives
        self.carries_out = True
        """Whether Bindings arrive at all."""
        self.watching = asyncio.Event()
        """While it is clear, watches tell nothing."""
        self.watching.set()
        self.bindings = 0
        """Those that were carried out."""
        self.refused = 0
        """Those that were not."""
        self.is_away = False
        """Whether nobody answers anything."""
        self.expired: set[str] = set()
        """Kinds whose next watch is told that its version is too old."""
        self._watches: set[asyncio.Transport] = set()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)

    @asynccontextmanager
    async def serving(self, kubeconfig: Path) -> AsyncIterator["LossyApi"]:
        """Serves, and writes a kubeconfig file that leads here."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls, limit=0)) as self._session:
            await self._runner.setup()
            try:
                await web.TCPSite(self._runner, "127.0.0.1", 0).start()
                text = _kubeconfig(f"http://127.0.0.1:{self._runner.addresses[0][1]}")
                await asyncio.to_thread(kubeconfig.write_text, text)
                yield self
            finally:
                await self.stop()

    async def stop(self) -> None:
        """Nobody listens any more."""
        await self._runner.cleanup()

    def end_watches(self) -> None:
        """Cuts the connections of all watches."""
        while self._watches:
            self._watches.pop().abort()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        url = self._server + request.raw_path
        headers = {"Content-Type": request.content_type} if request.can_read_body else {}
        is_binding = request.path.endswith("/binding")
        if is_binding and not self.carries_out:
            self.refused += 1
        if self.is_away or (is_binding and not self.carries_out):
            return _abort(request)
        if "watch" in request.query:
            kind = request.path.rpartition("/")[2]
            if kind in self.expired:
                self.expired.remove(kind)
                return web.json_response(_EXPIRED, status=410)
            assert request.transport is not None
            self._watches.add(request.transport)
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method, url, data=await request.read(), headers=headers, timeout=timeout
        ) as answer:
            if is_binding:
                self.bindings += 1
                await answer.read()
                if not await self.reply():
                    return _abort(request)
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            try:
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    if "watch" in request.query:
                        await self.watching.wait()
                    await response.write(piece)
            finally:
                # Left before its end, it would wait for the farewell in TLS, past the end of the loop.
                if answer.connection is not None and answer.connection.transport is not None:
                    answer.connection.transport.abort()
            return response

    async def _arrives(self) -> bool:
        return True


def _abort(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def _kubeconfig(server: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": {}}],
        }
    )
