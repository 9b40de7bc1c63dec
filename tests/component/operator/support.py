"""A running operator, and a cluster in which the test plays scheduler, kubelet and node agent."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from arbiter.ids import NodeName
from arbiter.units import GIB, MIB
from arbiter_kube.api import annotations as a
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.objects import Event, ObjectKey, Pod
from arbiter_kube.api.resources import EVENTS, GPU_ALLOCATIONS, GPU_NODES, NODES, PODS
from arbiter_kube.client import KubeClient
from hack.cluster.controlplane import ControlPlane
from tests.support.patience import PATIENCE
from tests.support.program import Program

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T | None]], what: str, *, log: Path | None = None) -> T:
    """What `look` finds once it finds something, asked again and again; a failure shows the end of `log`."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                if (found := await look()) is not None:
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"No {what} within {PATIENCE:g} s.{_tail(log)}") from None


def _tail(log: Path | None) -> str:
    return "" if log is None else f"\n{log.read_text()[-4000:]}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Operator:
    """`arbiter operator` as a process of its own; it may be killed and started again on the same ports."""

    def __init__(
        self,
        kubeconfig: Path,
        *,
        certificate: Path,
        key: Path,
        log: Path,
        lease_duration: int = 5,
        namespace: str = "arbiter-system",
    ) -> None:
        """`namespace` is that of its lease, which a machine that is busy for two seconds does not take from it."""
        self.webhook = f"127.0.0.1:{free_port()}"
        self.health = f"127.0.0.1:{free_port()}"
        self.log = log
        self._replica = partial(Operator, kubeconfig, certificate=certificate, key=key, lease_duration=lease_duration)
        self._flags = (
            *("--kubeconfig", str(kubeconfig)),
            *("--health-bind", self.health),
            *("--webhook-bind", self.webhook),
            *("--webhook-cert", str(certificate)),
            *("--webhook-key", str(key)),
            *("--lease-duration", str(lease_duration)),
            *("--namespace", namespace),
        )
        self._process: Program | None = None

    def replica(self, log: Path, *, namespace: str = "arbiter-system") -> "Operator":
        """Another one like it, not started; with a lease in another namespace it leads beside the first."""
        return self._replica(log=log, namespace=namespace)

    def start(self) -> None:
        self._process = Program("operator", *self._flags, log=self.log)

    async def ready(self) -> None:
        """Returns once it says that it is ready.

        Raises:
            AssertionError: it ended; the message has the end of its log.
        """

        async def look() -> bool | None:
            assert self._process is not None
            assert self._process.is_running, self.log.read_text()[-4000:]
            try:
                async with session.get(f"http://{self.health}/readyz") as answer:
                    return True if answer.status == 200 else None
            except aiohttp.ClientError:
                return None

        async with aiohttp.ClientSession() as session:
            await eventually(look, "readiness of the operator", log=self.log)

    async def leads(self) -> None:
        """Returns once it writes."""

        async def look() -> bool | None:
            async with session.get(f"http://{self.health}/metrics") as answer:
                return True if "arbiter_operator_leading 1.0" in await answer.text() else None

        async with aiohttp.ClientSession() as session:
            await eventually(look, "leading operator", log=self.log)

    async def logs(self, text: str, *, times: int = 1) -> None:
        """Returns once its log has this text so many times."""

        async def look() -> bool | None:
            return True if self.log.read_text().count(text) >= times else None

        await eventually(look, f"line with {text!r}", log=self.log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """It stands still; what it is sent meanwhile waits for it."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> int:
        """Asks it to end, and returns its exit code."""
        assert self._process is not None
        return self._process.stop(patience=PATIENCE)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill(patience=PATIENCE)


@dataclass
class Node:
    """One node as its agent reports it; sizes in MiB, one GPU `<node>-gpu`."""

    name: str
    client: KubeClient
    usable: int
    grants: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def gpu(self) -> str:
        return f"{self.name}-gpu"

    async def report(self) -> None:
        """Writes what the agent says from now on."""
        size = self.usable * MIB
        gpu = {"uuid": self.gpu, "index": 0, "name": "SIM", "total": size, "reserved": 0, "usable": size}
        status = {"unit": GIB, "gpus": [gpu], "grants": list(self.grants.values())}
        await self.client.patch(GPU_NODES, self.name, {"status": status}, subresource="status")

    async def grant(self, pod: Pod, size: int, *, quality: float, state: str = "Movable") -> None:
        """The container has, holds and has applied `size` MiB."""
        self.grants[pod.uid] = {
            "podUID": pod.uid,
            "namespace": pod.metadata.namespace,
            "pod": pod.metadata.name,
            "container": "main",
            "gpus": [self.gpu],
            "granted": size * MIB,
            "held": size * MIB,
            "applied": size * MIB,
            "quality": quality,
            "movable": state == "Movable",
            "revision": 1,
            "state": state,
        }
        await self.report()

    async def gate(self, pod: Pod) -> None:
        """The container waits until its floor is free."""
        await self.grant(pod, 0, quality=1.0, state="Gated")
        self.grants[pod.uid] |= {"granted": None, "applied": None, "quality": None, "waiting": True}
        await self.report()

    async def forget(self, pod: Pod) -> None:
        """The container is gone."""
        del self.grants[pod.uid]
        await self.report()


class Site:
    """What the tests do to the cluster, each with the identity whose business it is."""

    def __init__(self, control_plane: ControlPlane, admin: KubeClient, scheduler: KubeClient) -> None:
        self.control_plane = control_plane
        self.admin = admin
        self._scheduler = scheduler

    @asynccontextmanager
    async def agent(self, node: str) -> AsyncIterator[KubeClient]:
        """A client with the token that the agent of that node has."""
        kubeconfig = await asyncio.to_thread(
            self.control_plane.service_account_kubeconfig, "arbiter-system", "arbiter-device-plugin", node=node
        )
        async with await KubeClient.connect(kubeconfig, component="agent") as client:
            yield client

    @asynccontextmanager
    async def node(self, name: str, *, usable: int) -> AsyncIterator[Node]:
        """A Ready node whose agent reports one GPU of `usable` MiB."""
        await self.admin.create(NODES, {"metadata": {"name": name}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        await self.admin.patch(NODES, name, {"status": {"conditions": [ready]}}, subresource="status")
        # Admission taints every new node; the controller that takes the taint away is not here.
        await self.admin.patch(NODES, name, {"spec": {"taints": None}})
        try:
            async with self.agent(name) as client:
                await client.create(GPU_NODES, {"metadata": {"name": name}})
                node = Node(name=name, client=client, usable=usable)
                await node.report()
                yield node
        finally:
            await self.admin.delete(NODES, name)
            await self.admin.delete(GPU_NODES, name)

    def kubectl(self, *arguments: str, manifest: dict[str, Any] | None = None) -> str:
        """What kubectl prints; its failure is an error with what it says."""
        return self.control_plane.kubectl(*arguments, stdin=None if manifest is None else json.dumps(manifest))

    def add_namespace(self, name: str) -> None:
        self.kubectl("create", "namespace", name)

    async def add_allocation(self, key: ObjectKey, **spec: Any) -> None:
        await self.admin.create(
            GPU_ALLOCATIONS, {"metadata": {"name": key.name}, "spec": spec}, namespace=key.namespace
        )

    async def add_pod(self, key: ObjectKey, *, app: str = "any", **annotations: str) -> Pod:
        """A pod with the label `app`; annotations without prefix, with underscores for dashes."""
        manifest = pod_manifest(key.name, **annotations)
        manifest["metadata"]["labels"] = {"app": app}
        return await self.admin.create(PODS, manifest, namespace=key.namespace)

    async def bind(self, pod: Pod, node: Node) -> None:
        """What the extender does."""
        await self._scheduler.bind(pod.key, uid=pod.uid, node=NodeName(node.name), annotations={a.GPUS: node.gpu})

    async def refuse(self, pod: Pod) -> None:
        """What kube-scheduler does when no node fits."""
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
        await self._scheduler.patch(
            PODS,
            pod.metadata.name,
            {"status": {"conditions": [condition]}},
            namespace=pod.metadata.namespace,
            subresource="status",
        )

    async def pod(self, key: ObjectKey) -> Pod:
        return await self.admin.get(PODS, key.name, namespace=key.namespace)

    async def finish(self, pod: Pod) -> None:
        """What the kubelet says when a Job's container has ended."""
        await self.enter(pod, "Succeeded")

    async def enter(self, pod: Pod, phase: str) -> None:
        """What the kubelet says."""
        status = {"status": {"phase": phase}}
        await self.admin.patch(PODS, pod.metadata.name, status, namespace=pod.metadata.namespace, subresource="status")

    async def end(self, pod: Pod) -> None:
        await self.admin.delete(PODS, pod.metadata.name, namespace=pod.metadata.namespace, grace=0)

    async def leaving(self, key: ObjectKey) -> Pod:
        """The pod once somebody has deleted it."""

        async def look() -> Pod | None:
            pod = await self.pod(key)
            return pod if pod.is_terminating else None

        return await eventually(look, f"deletion of {key}")

    async def annotated(self, key: ObjectKey, annotation: str) -> str:
        """The value of a pod's annotation, once it has one."""

        async def look() -> str | None:
            return (await self.pod(key)).metadata.annotations.get(annotation)

        return await eventually(look, f"{annotation} of {key}")

    async def told(self, key: ObjectKey, quality: str, *, revision: int | None = None) -> Pod:
        """The pod once its quality target is this."""

        async def look() -> Pod | None:
            pod = await self.pod(key)
            annotations = pod.metadata.annotations
            right = annotations.get(a.QUALITY_TARGET) == quality
            return pod if right and revision in (None, int(annotations.get(a.REVISION, "0"))) else None

        return await eventually(look, f"target {quality} of {key}")

    async def allocation(self, key: ObjectKey, **columns: Any) -> GpuAllocation:
        """The allocation once its status has these values."""

        async def look() -> GpuAllocation | None:
            found = await self.admin.get(GPU_ALLOCATIONS, key.name, namespace=key.namespace)
            return found if {name: getattr(found.status, name) for name in columns} == columns else None

        return await eventually(look, f"status {columns} of {key}")

    async def condition(self, key: ObjectKey, kind: str, status: str) -> str:
        """The message of a condition, once it has this status."""

        async def look() -> str | None:
            found = await self.admin.get(GPU_ALLOCATIONS, key.name, namespace=key.namespace)
            return next((c.message for c in found.status.conditions if (c.type, c.status) == (kind, status)), None)

        return await eventually(look, f"condition {kind}={status} of {key}")

    async def event(self, key: ObjectKey, reason: str) -> Event:
        """The first event of that reason about an object of that name."""

        async def look() -> Event | None:
            events = await self.admin.list(EVENTS, namespace=key.namespace)
            return next((e for e in events if e.reason == reason and e.involved_object.name == key.name), None)

        return await eventually(look, f"event {reason} about {key}")


def pod_manifest(name: str, **annotations: str) -> dict[str, Any]:
    """A pod of one container; annotations without prefix, with underscores for dashes."""
    keys = {f"arbiter.infernum.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": keys},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
