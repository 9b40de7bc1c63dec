"""Everything that has metrics, as real processes, and a Prometheus that scrapes them: an API server, operator, extender
and agent, among which the test plays people, kube-scheduler, the kubelet and the engines."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from arbiter.units import GIB
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.resources import GPU_ALLOCATIONS, NAMESPACES, NODES, PODS
from arbiter_kube.client import KubeClient
from hack.cluster import binaries
from hack.cluster.chart import outside_pods, render, with_webhook_at
from hack.cluster.controlplane import ControlPlane
from hack.cluster.paths import REPOSITORY
from hack.cluster.process import Processes
from hack.dashboards.prometheus import Prometheus, PrometheusError
from tests.component.deviceplugin.fake_kubelet import FakeKubelet, fake_kubelet
from tests.component.deviceplugin.support import AgentProcess, Place, Running, Site, gpu, make_node
from tests.component.extender.support import Extender
from tests.component.operator.support import Operator, eventually, free_port, pod_manifest

NODE = "gpu-1"
SCRAPE_SECONDS = 1
_NAMESPACES = ("team-a", "team-b")
_VALUES = {"metrics": {"podMonitor": {"enabled": True}, "rules": {"enabled": True}}}


class Stage:
    """A cluster of one node with two GPUs of 12 GiB."""

    def __init__(self, *, control_plane: ControlPlane, admin: KubeClient, extender: Extender, site: Site) -> None:
        self._control_plane = control_plane
        self._admin = admin
        self._extender = extender
        self._site = site
        self._engines: dict[ObjectKey, asyncio.Task[None]] = {}
        self._running: dict[ObjectKey, Running] = {}

    async def allocate(self, key: ObjectKey, **spec: Any) -> None:
        """A GpuAllocation."""
        body = {"metadata": {"name": key.name}, "spec": spec}
        await self._admin.create(GPU_ALLOCATIONS, body, namespace=key.namespace)

    async def create(self, key: ObjectKey, **annotations: str) -> Pod:
        """A pod with these annotations, which admission sees."""
        return await self._admin.create(PODS, pod_manifest(key.name, **annotations), namespace=key.namespace)

    async def place(self, key: ObjectKey) -> str:
        """Asks the extender as kube-scheduler does; the error, empty when the pod was bound."""
        raw = json.loads(self._control_plane.get(f"/api/v1/namespaces/{key.namespace}/pods/{key.name}") or b"")
        answer = await self._extender.filter(raw, NODE)
        if not answer["NodeNames"]:
            return str(answer["FailedNodes"] | answer["FailedAndUnresolvableNodes"])
        await self._extender.prioritize(raw, NODE)
        return await self._extender.bind(raw, NODE)

    async def run(self, key: ObjectKey) -> None:
        """Has a bound pod's container started, with an engine that does what it is told."""
        self._site.namespace = key.namespace
        pod = await self._admin.get(PODS, key.name, namespace=key.namespace)
        size = int(pod.spec.containers[0].resources.limits[VRAM_RESOURCE])
        container = await self._site.kubelet.admit(key.namespace, key.name, size=size)
        refusal = await self._site.kubelet.prestart(container)
        assert refusal == "", refusal
        self._running[key] = running = await self._site.report_running(pod, container)
        self._engines[key] = asyncio.create_task(_obey(running))

    async def end(self, key: ObjectKey) -> None:
        """Has a pod's container end, and deletes the pod."""
        running = self._running.pop(key)
        self._engines.pop(key).cancel()
        self._site.namespace = key.namespace
        self._site.processes.end(running.process)
        self._site.kubelet.forget(running.container)
        await self._site.report_ended(running, phase="Succeeded")
        await self._admin.delete(PODS, key.name, namespace=key.namespace, grace=0)

    def use(self, *pods_of_gpus: Mapping[str, int]) -> None:
        """What the driver measures: bytes by pod (``namespace/name``) of the first GPU, and of the second."""
        gpus = [gpu(number, used=sum(pods.values())) for number, pods in enumerate(pods_of_gpus)]
        self._site.place.write_gpus(*gpus, use={pod: size for pods in pods_of_gpus for pod, size in pods.items()})

    async def close(self) -> None:
        """Ends the engines."""
        for task in self._engines.values():
            task.cancel()
        await asyncio.gather(*self._engines.values(), return_exceptions=True)


async def _obey(running: Running) -> None:
    revision = -1
    while True:
        target = await running.engine.ask(after=revision)
        if target["revision"] != revision:
            await running.engine.acknowledge(target)
            revision = target["revision"]


@asynccontextmanager
async def staged(directory: Path, prometheus: Processes) -> AsyncIterator[tuple[Stage, Prometheus]]:
    """Everything while the context lasts; Prometheus goes on, as `prometheus` in these processes."""
    binaries.ensure([binaries.HELM, binaries.PROMETHEUS])
    async with AsyncExitStack() as stack:
        control_plane = stack.enter_context(ControlPlane(directory / "control-plane"))
        operator = _operator(control_plane, directory)
        stack.callback(operator.stop)
        extender = Extender(
            control_plane.service_account_kubeconfig("arbiter-system", "arbiter-scheduler"),
            log=directory / "extender.log",
        )
        extender.start()
        stack.callback(extender.stop)
        admin = await stack.enter_async_context(
            await KubeClient.connect(control_plane.admin_kubeconfig, component="test")
        )
        await operator.ready()
        for name in _NAMESPACES:
            await admin.create(NAMESPACES, {"metadata": {"name": name}})
        site = await _node(stack, control_plane, admin)
        await extender.ready()
        await extender.knows(NODE)
        server = await _prometheus(
            prometheus,
            directory,
            {
                "arbiter-operator-0": operator.health,
                "arbiter-scheduler-0": extender.health,
                "arbiter-device-plugin-0": site.agent.health,
            },
        )
        stage = Stage(control_plane=control_plane, admin=admin, extender=extender, site=site)
        stack.push_async_callback(stage.close)
        yield stage, server


def _operator(control_plane: ControlPlane, directory: Path) -> Operator:
    """A running one, whose webhook the API server asks."""

    def apply(objects: list[dict[str, object]]) -> None:
        control_plane.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all(objects))

    control_plane.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
    objects = [one for one in outside_pods() if one["kind"] != "CustomResourceDefinition"]
    admission = [one for one in objects if one["apiVersion"].startswith("admissionregistration")]
    apply([one for one in objects if one not in admission])
    serving = control_plane.authority.issue("webhook", common_name="webhook", hosts=("127.0.0.1",))
    operator = Operator(
        control_plane.service_account_kubeconfig("arbiter-system", "arbiter-operator"),
        certificate=serving.certificate,
        key=serving.key,
        log=directory / "operator.log",
    )
    operator.start()
    url, authority = f"https://{operator.webhook}/pods", control_plane.authority.certificate
    apply(with_webhook_at(url, admission, authority=authority))
    return operator


async def _node(stack: AsyncExitStack, control_plane: ControlPlane, admin: KubeClient) -> Site:
    """A Ready node, its kubelet and its agent."""
    place = Place(Path(tempfile.mkdtemp(prefix="arb-")))  # a socket's path must be short
    stack.callback(shutil.rmtree, place.root)
    place.write_gpus(gpu(0), gpu(1), use={})
    kubelet: FakeKubelet = await stack.enter_async_context(fake_kubelet(place.kubelet))
    await make_node(admin, NODE)
    # Admission taints every new node; the controller that takes the taint away is not here.
    await admin.patch(NODES, NODE, {"spec": {"taints": None}})
    kubeconfig = control_plane.service_account_kubeconfig("arbiter-system", "arbiter-device-plugin", node=NODE)
    agent = AgentProcess(kubeconfig, node=NODE, place=place)
    site = Site(client=admin, node=NODE, place=place, kubelet=kubelet, agent=agent)
    agent.start()
    stack.callback(agent.stop)
    await agent.ready()
    offered = {VRAM_RESOURCE: str(24 * GIB // GIB)}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    status = {"status": {"capacity": offered, "allocatable": offered, "conditions": [ready]}}
    await admin.patch(NODES, NODE, status, subresource="status")
    return site


async def _prometheus(processes: Processes, directory: Path, targets: dict[str, str]) -> Prometheus:
    """One that scrapes these addresses, by the names of their pods, as the chart's PodMonitor has it done."""
    objects = {one["kind"]: one for one in render(_VALUES)}
    (endpoint,) = objects["PodMonitor"]["spec"]["podMetricsEndpoints"]
    (directory / "rules.yaml").write_text(yaml.safe_dump(objects["PrometheusRule"]["spec"]))
    # What Prometheus' operator adds to every target of a PodMonitor.
    labels = {"container": "arbiter", "endpoint": endpoint["port"], "namespace": "arbiter-system"}
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(directory / "rules.yaml")],
        "scrape_configs": [
            {
                "job_name": "arbiter-system/arbiter",
                "honor_labels": endpoint["honorLabels"],
                "static_configs": [
                    {"targets": [address], "labels": {**labels, "pod": pod}} for pod, address in targets.items()
                ],
            }
        ],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    flags = (
        f"--config.file={directory / 'prometheus.yaml'}",
        f"--web.listen-address={address}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        "--log.level=warn",
    )
    processes.start("prometheus", (str(binaries.directory() / binaries.PROMETHEUS), *flags))
    server = Prometheus(f"http://{address}")

    async def scrapes() -> bool | None:
        with suppress(PrometheusError):
            health = [target["health"] for target in server.targets()]
            return True if health == ["up"] * len(targets) else None
        return None

    await eventually(scrapes, "scrape of every process", log=processes.log("prometheus"))
    return server
