"""Arbiter in a cluster: installed by its chart, its processes found again in the containers of its pods."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hack.cluster.chart import CHART, NAMESPACE, RELEASE, helm
from hack.cluster.controlplane import ControlPlane
from hack.cluster.errors import ComponentError
from hack.cluster.node import Container, Node
from hack.cluster.process import end, start_time

RESOURCE = "arbiter.infernum.io/vram"

_ONCE = {"operator": "operator", "extender": "extender", "arbiter-scheduler": "kube-scheduler"}
_ON_EACH_NODE = {"device-plugin": "agent"}
_CONTAINERS = _ONCE | _ON_EACH_NODE
_INSTALL_SECONDS = 240.0
_READY_SECONDS = 90.0
_KILL_SECONDS = 15.0
_RESTART_SECONDS = 120.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Installation:
    """Arbiter in one cluster.

    Where a component runs more than once, `operator` is all of them and `operator/gpu-1` the one on that node.
    """

    control_plane: ControlPlane
    nodes: Sequence[Node]

    @property
    def components(self) -> list[str]:
        """The names of Arbiter's processes, the second kube-scheduler included."""
        return [*_ONCE, *(f"{name}/{node.name}" for name in _ON_EACH_NODE for node in self.nodes)]

    def has(self, component: str) -> bool:
        """Says whether that is one of Arbiter's components, on all nodes or on one."""
        name, _, where = component.partition("/")
        return name in _CONTAINERS and where in {"", *(node.name for node in self.nodes)}

    def install(self, tag: str) -> None:
        """Installs the chart with the image `arbiter:TAG`, or upgrades to it; returns when its Deployments are ready.

        Raises:
            CommandError: Helm refused, or something was not ready in time.
        """
        helm(
            *("upgrade", RELEASE, str(CHART), "--install", f"--namespace={NAMESPACE}", "--create-namespace"),
            *("--values=-", "--wait", f"--timeout={_INSTALL_SECONDS:g}s"),
            kubeconfig=self.control_plane.admin_kubeconfig,
            stdin=json.dumps(values(tag)),
            seconds=_INSTALL_SECONDS + 10,
        )

    def wait_offered(self, node: Node) -> int:
        """Waits until a node offers GPU memory and returns how many units."""
        agent = f"device-plugin/{node.name}"
        self._wait(agent, f"{RESOURCE} on node {node.name}", lambda: self._offered(node) > 0, seconds=_READY_SECONDS)
        return self._offered(node)

    def ready(self, component: str) -> bool:
        """Says whether a component runs and is ready, by its pod's word about the container that runs now."""
        running = {f"containerd://{container.id}" for container in self._running(component)}
        return any(status["ready"] for status in self._statuses() if status.get("containerID") in running)

    def alive(self, component: str) -> bool:
        """Says whether a component's container runs."""
        return bool(self._running(component))

    def pid(self, component: str) -> int:
        """Returns the process id, on the host, of a component that runs."""
        for container in self._running(component):
            return container.pid
        raise ComponentError(f"{component} does not run.")

    def kill(self, component: str) -> None:
        """Ends a component's processes with SIGKILL and waits until they are gone; the kubelet will start others."""
        for container in self._running(component):
            if started := start_time(container.pid):
                end(container.pid, started, signal.SIGKILL, seconds=_KILL_SECONDS)

    def wait_started(self, component: str) -> None:
        """Waits until the kubelet has started a component that had ended."""
        self._wait(component, "new container", lambda: self.alive(component), seconds=_RESTART_SECONDS)

    def log(self, component: str) -> str:
        """Returns what a component printed, in all of the containers that its pods' nodes remember."""
        nodes, container = self._place(component)
        return "".join(node.container_log(NAMESPACE, container) for node in nodes)

    def _place(self, component: str) -> tuple[list[Node], str]:
        """The nodes where a component may run, and its container's name."""
        name, _, where = component.partition("/")
        return [node for node in self.nodes if where in ("", node.name)], _CONTAINERS[name]

    def _running(self, component: str) -> list[Container]:
        nodes, name = self._place(component)
        return [container for node in nodes for container in node.containers(NAMESPACE, name)]

    def _statuses(self) -> Iterator[dict[str, Any]]:
        """What the API server knows of every container of Arbiter's."""
        answer = self.control_plane.get(f"/api/v1/namespaces/{NAMESPACE}/pods")
        for pod in json.loads(answer)["items"] if answer else []:
            yield from pod["status"].get("containerStatuses", [])
            yield from pod["status"].get("initContainerStatuses", [])

    def _wait(self, component: str, what: str, condition: Callable[[], bool], *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                tail = "\n".join(self.log(component).splitlines()[-8:])
                raise ComponentError(f"No {what} within {seconds:g} s; {component} printed last:\n{tail}")
            time.sleep(_POLL_SECONDS)

    def _offered(self, node: Node) -> int:
        answer = self.control_plane.get(f"/api/v1/nodes/{node.name}")
        return int(json.loads(answer)["status"]["allocatable"].get(RESOURCE, 0)) if answer else 0


def values(tag: str) -> dict[str, Any]:
    """The chart's values on a local cluster: simulated GPUs, and one replica of each, since the machine is one."""
    return {
        "image": {"tag": tag},
        "gpuBackend": "simulated",
        # Whoever killed the one replica need not wait long for the next.
        "operator": {"replicas": 1, "leaseDuration": 4},
        "scheduler": {"replicas": 1, "kubeScheduler": {"extraArgs": ["--leader-elect=false"]}},
    }
