"""A running agent, its node and pods on a real API server, and engines that ask its sockets."""

import asyncio
import json
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from arbiter.ids import GpuUuid
from arbiter.units import GIB
from arbiter.workload import MemoryPressure
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api import annotations as a
from arbiter_kube.api.annotations import TargetGrant
from arbiter_kube.api.gpunode import GpuNodeStatus, GrantOnNode
from arbiter_kube.api.objects import Pod
from arbiter_kube.api.resources import GPU_NODES, NAMESPACES, NODES, PODS
from arbiter_kube.client import KubeClient, NotFound
from tests.component.deviceplugin.fake_kubelet import Container, FakeKubelet
from tests.support.patience import PATIENCE
from tests.support.program import Program
from tests.unit.extender.builders import PodBuilder

Json = Any  # what quality.json and its socket answer


async def eventually(look: Callable[[], Any], what: str) -> Any:
    """What `look` (a coroutine function or not) finds once it is true, asked again and again."""
    found: Any = None
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = look()
                found = await answer if isinstance(answer, Awaitable) else answer
                if found:
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"No {what} within {PATIENCE:g} s; the last look found {found!r}.") from None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Place:
    """Directories of one node; short, since unix sockets are in them."""

    root: Path

    @property
    def kubelet(self) -> Path:
        return self.root / "k"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    @property
    def gpus(self) -> Path:
        return self.root / "gpus.yaml"

    def write_gpus(self, *gpus: Mapping[str, object], use: Mapping[str, int] | None = None) -> None:
        file: dict[str, object] = {"gpus": list(gpus)}
        if use is not None:
            file["use"] = [{"pod": pod, "vram": vram} for pod, vram in use.items()]
        temporary = self.gpus.with_suffix(".new")
        temporary.write_text(yaml.safe_dump(file))
        temporary.replace(self.gpus)


def gpu(number: int, *, size: int = 12 * GIB, **changes: object) -> dict[str, object]:
    return {"uuid": f"GPU-{number}", "index": number, "name": "SIM-12G", "total": size, **changes}


class Processes:
    """What /proc shows of the node's containers: one process for each, in the pod's control group."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        proc.mkdir(parents=True)
        self._next = 100
        kubelet = proc / str(os.getpid())  # it is served by this process
        kubelet.mkdir()
        (kubelet / "cgroup").write_text("0::/system.slice/kubelet.service\n")

    def start(self, pod_uid: str) -> tuple[int, str]:
        """Process id and container id."""
        self._next += 1
        container = secrets.token_hex(32)
        directory = self._proc / str(self._next)
        directory.mkdir()
        (directory / "cgroup").write_text(f"3:memory:/kubepods/besteffort/pod{pod_uid}/{container}\n")
        return self._next, container

    async def hold_look(self, process: int) -> Callable[[], Awaitable[object]]:
        """Returns while somebody reads the process's groups; it has read them once what is returned was called."""
        cgroup = self._proc / str(process) / "cgroup"
        text, pipe = cgroup.read_text(), cgroup.with_name("pipe")
        os.mkfifo(pipe)
        pipe.replace(cgroup)
        stream = await asyncio.to_thread(cgroup.open, "w")

        def let_go() -> None:
            with stream:
                stream.write(text)

        return lambda: asyncio.to_thread(let_go)

    def end(self, process: int) -> None:
        directory = self._proc / str(process)
        (directory / "cgroup").unlink()
        directory.rmdir()


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process has of its host."""

    descriptors: int
    threads: int
    resident: int
    """Bytes."""
    cpu: float
    """Seconds that it has used of a core."""


def footprint_of(pid: int) -> Footprint:
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    # Behind the name, which may hold blanks: fields 14 and 15 of all are the ticks of user and system.
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return Footprint(
        descriptors=len(list((process / "fd").iterdir())),
        threads=len(list((process / "task").iterdir())),
        resident=pages * os.sysconf("SC_PAGESIZE"),
        cpu=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
    )


class AgentProcess:
    """`arbiter device-plugin` as a process of its own."""

    def __init__(self, kubeconfig: Path, *, node: str, place: Place) -> None:
        self._kubeconfig = kubeconfig
        self._node = node
        self._place = place
        self._log = place.root / "log"
        self._process: Program | None = None
        self.health = ""

    def start(self, *flags: str) -> None:
        self.health = f"127.0.0.1:{free_port()}"
        self._process = Program(
            *("device-plugin", "--kubeconfig", str(self._kubeconfig)),
            *("--health-bind", self.health, "--node", self._node),
            *("--backend", "simulated", "--simulated-gpus", str(self._place.gpus)),
            *("--kubelet-dir", str(self._place.kubelet), "--run-dir", str(self._place.run)),
            *("--state-dir", str(self._place.state), "--proc-dir", str(self._place.proc)),
            *flags,
            log=self._log,
        )

    async def ready(self) -> None:
        await eventually(self._is_ready, "ready agent")

    async def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.is_running, f"the agent ended:\n{self.log}"
        status, _ = await http(f"http://{self.health}/readyz")
        return status == 200

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill(patience=PATIENCE)

    def stop(self) -> int:
        """Asks it to end; its exit code."""
        assert self._process is not None
        return self._process.stop(patience=PATIENCE)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    def footprint(self) -> Footprint:
        assert self._process is not None
        return footprint_of(self._process.pid)

    async def metric(self, name: str, **labels: str) -> float | None:
        _, text = await http(f"http://{self.health}/metrics")
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return None

    @property
    def log(self) -> str:
        return self._log.read_text()


class Engine:
    """What runs in a container: it reads its file and asks its socket."""

    def __init__(self, container: Container) -> None:
        self.directory = container.directory

    @property
    def target(self) -> Json:
        return json.loads((self.directory / "quality.json").read_text())

    def number(self, name: str) -> str:
        return (self.directory / name).read_text().strip()

    async def ask(self, *, after: int = -1, patience: str = "10s") -> Json:
        status, text = await http(
            f"http://agent/v1/quality?after={after}&timeout={patience}", unix=self.directory / "agent.sock"
        )
        assert status == 200, text
        return json.loads(text)

    async def acknowledge(self, target: Json | None = None) -> None:
        target = target or self.target
        body = {key: target[key] for key in ("revision", "quality", "vramBytes")}
        status, text = await self.post(json.dumps(body))
        assert status == 200, text

    async def post(self, body: str) -> tuple[int, str]:
        return await http("http://agent/v1/applied", unix=self.directory / "agent.sock", body=body)


async def http(url: str, *, unix: Path | None = None, body: str | None = None) -> tuple[int, str]:
    """Status and text; status 0 while nobody listens."""
    connector = aiohttp.UnixConnector(str(unix)) if unix else aiohttp.TCPConnector()
    async with aiohttp.ClientSession(connector=connector) as session:
        try:
            async with session.request("GET" if body is None else "POST", url, data=body) as response:
                return response.status, await response.text()
        except aiohttp.ClientConnectionError:
            return 0, ""


@dataclass(slots=True)
class Running:
    """A pod whose container was let go: the engine in it and its process."""

    pod: Pod
    container: Container
    engine: Engine
    process: int
    container_id: str
    started_at: str


class Site:
    """A node with its pods on a real API server, its fake kubelet, and its agent."""

    def __init__(
        self, *, client: KubeClient, node: str, place: Place, kubelet: FakeKubelet, agent: AgentProcess
    ) -> None:
        self.client = client
        self.node = node
        self.namespace = f"test-{secrets.token_hex(4)}"
        self.place = place
        self.kubelet = kubelet
        self.agent = agent
        self.processes = Processes(place.proc)

    async def open(self) -> None:
        await self.client.create(NAMESPACES, {"metadata": {"name": self.namespace}})

    async def close(self) -> None:
        for pod in await self.client.list(PODS, namespace=self.namespace):
            await self.client.delete(PODS, pod.metadata.name, namespace=self.namespace, grace=0)

    async def add_pod(
        self, builder: PodBuilder, *, gpus: Sequence[str] = ("GPU-0",), target: tuple[str, int] | None = None
    ) -> Pod:
        """A pod bound to the node. `target`: quality and bytes; its full size unless told otherwise."""
        pod = builder.pod
        limits = {VRAM_RESOURCE: str(pod.slices)}
        quality, vram = target or ("1.000", pod.demand.full)
        annotations = {
            a.DEMAND: a.encode_demand(pod.frozen),
            a.GPUS: a.encode_gpus(tuple(GpuUuid(gpu) for gpu in gpus)),
            **a.target_annotations(_grant(quality, vram, revision=1)),
        }
        body = {
            "metadata": {"name": pod.name, "annotations": annotations},
            "spec": {
                "nodeName": self.node,
                "containers": [{"name": pod.frozen.container, "image": "none", "resources": {"limits": limits}}],
            },
        }
        return await self.client.create(PODS, body, namespace=self.namespace)

    async def set_target(self, pod: Pod, quality: str, vram: int, *, revision: int) -> None:
        annotations = a.target_annotations(_grant(quality, vram, revision=revision))
        await self.client.patch(
            PODS, pod.metadata.name, {"metadata": {"annotations": annotations}}, namespace=self.namespace
        )

    async def set_status(self, pod: Pod, status: Json) -> None:
        await self.client.patch(
            PODS, pod.metadata.name, {"status": status}, namespace=self.namespace, subresource="status"
        )

    async def run(
        self, builder: PodBuilder, *, gpus: Sequence[str] = ("GPU-0",), target: tuple[str, int] | None = None
    ) -> Running:
        """A pod that was admitted and let go, its container running and reported so."""
        pod = await self.add_pod(builder, gpus=gpus, target=target)
        container = await self.kubelet.admit(self.namespace, pod.metadata.name, size=builder.pod.slices)
        assert await self.kubelet.prestart(container) == ""
        return await self.report_running(pod, container)

    async def report_running(self, pod: Pod, container: Container) -> Running:
        process, container_id = self.processes.start(pod.uid)
        running = Running(pod, container, Engine(container), process, container_id, _now())
        state = {"running": {"startedAt": running.started_at}}
        await self.set_status(pod, _status("Running", self._state(running, state)))
        return running

    async def report_ended(self, running: Running, *, phase: str = "Running") -> None:
        terminated = {"terminated": {"exitCode": 0, "startedAt": running.started_at, "finishedAt": _now()}}
        await self.set_status(running.pod, _status(phase, self._state(running, terminated)))

    async def force_delete(self, pod: Pod) -> None:
        await self.client.delete(PODS, pod.metadata.name, namespace=self.namespace, grace=0)

    async def status(self) -> GpuNodeStatus | None:
        """None until the agent has written it; the object itself is made a moment earlier."""
        try:
            status = (await self.client.get(GPU_NODES, self.node)).status
        except NotFound:
            return None
        return status if status.agent_version else None

    async def grant(self, pod: Pod) -> GrantOnNode | None:
        status = await self.status()
        return next((grant for grant in status.grants if grant.pod_uid == pod.uid), None) if status else None

    async def eventually_grant(self, pod: Pod, is_so: Callable[[GrantOnNode], bool], what: str) -> GrantOnNode:
        async def look() -> GrantOnNode | None:
            grant = await self.grant(pod)
            return grant if grant and is_so(grant) else None

        found: GrantOnNode = await eventually(look, what)
        return found

    def _state(self, running: Running, state: Json) -> Json:
        return {
            "name": running.container.name,
            "image": "none",
            "imageID": "",
            "ready": "running" in state,
            "restartCount": 0,
            "containerID": f"containerd://{running.container_id}",
            "state": state,
        }


def _status(phase: str, container: Json) -> Json:
    return {"phase": phase, "containerStatuses": [container]}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _grant(quality: str, vram: int, *, revision: int) -> TargetGrant:
    return TargetGrant(quality=quality, vram=vram, revision=revision, pressure=MemoryPressure.HIGH, mode="Adaptive")


async def make_node(client: KubeClient, name: str) -> None:
    await client.create(NODES, {"metadata": {"name": name}})
