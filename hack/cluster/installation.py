"""Arbiter's own processes, run on the host inside the cluster's namespaces, each under its own service account."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from hack.cluster import binaries, probe
from hack.cluster.chart import NAMESPACE, outside_pods, render, with_webhook_at
from hack.cluster.controlplane import ControlPlane
from hack.cluster.netns import Network
from hack.cluster.node import KUBELET_DIRECTORY, Node
from hack.cluster.process import Processes

RESOURCE = "arbiter.infernum.io/vram"
VRAM_UNIT = "1Gi"

_ARBITER = str(Path(sys.executable).with_name("arbiter"))
_READY_SECONDS = 45.0
_EXTENDER = "127.0.0.1:8888"
_WEBHOOK = "127.0.0.1:9443"
_EXTENDER_HEALTH_PORT, _OPERATOR_HEALTH_PORT, _AGENT_HEALTH_PORT = 8081, 8082, 8083
_SCHEDULER_PORT = 10260


@dataclass(frozen=True)
class Installation:
    """Arbiter in one cluster: what is applied, started and waited for."""

    control_plane: ControlPlane
    network: Network
    nodes: Sequence[Node]
    processes: Processes

    @property
    def components(self) -> list[str]:
        """The names of Arbiter's processes, the second kube-scheduler included."""
        return [*self._health, "arbiter-scheduler"]

    def apply(self) -> None:
        """Applies what the chart makes beside its own processes: the CRDs and, once they are served, the rest."""
        apply = ("apply", "--server-side", "--force-conflicts", "--filename=-")
        objects = outside_pods()
        crds = [one for one in objects if one["kind"] == "CustomResourceDefinition"]
        self.control_plane.kubectl(*apply, stdin=yaml.safe_dump_all(crds))
        self.control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        others = with_webhook_at(
            f"https://{_WEBHOOK}/pods",
            [one for one in objects if one not in crds],
            authority=self.control_plane.authority.certificate,
        )
        self.control_plane.kubectl(*apply, stdin=yaml.safe_dump_all(others))

    def start(self) -> None:
        """Starts every process and waits until each says that it is ready.

        Raises:
            ComponentError: one ended or was not ready in time; the message has the tail of its log.
        """
        self._start_extender()
        self._start_scheduler()
        self._start_operator()
        for node in self.nodes:
            self._start_agent(node)
        for name in self.components:
            self.processes.wait(name, "answer to /readyz", partial(self.ready, name), seconds=_READY_SECONDS)

    def ready(self, name: str) -> bool:
        """Says whether one of the components answers that it is ready."""
        if name == "arbiter-scheduler":
            tls = self.control_plane.authority.client_context()
            return probe.get(self.network.control_plane, _SCHEDULER_PORT, "/readyz", tls=tls) is not None
        return probe.get(*self._health[name], "/readyz") is not None

    def wait_offered(self, node: Node) -> int:
        """Waits until a node offers GPU memory and returns how many units."""
        self.processes.wait(
            f"device-plugin/{node.name}",
            f"{RESOURCE} on node {node.name}",
            lambda: self._offered(node) > 0,
            seconds=_READY_SECONDS,
        )
        return self._offered(node)

    @property
    def _health(self) -> dict[str, tuple[str, int]]:
        """Where each process answers probes: addresses that the host reaches too."""
        address = self.network.control_plane
        agents = {f"device-plugin/{node.name}": (node.address, _AGENT_HEALTH_PORT) for node in self.nodes}
        return {"extender": (address, _EXTENDER_HEALTH_PORT), "operator": (address, _OPERATOR_HEALTH_PORT), **agents}

    def _start_extender(self) -> None:
        flags = ("--bind", _EXTENDER, "--filter-answer", "best")
        self._start("extender", self.network.enter, account="arbiter-scheduler", flags=flags)

    def _start_operator(self) -> None:
        webhook = self.control_plane.authority.issue("webhook", common_name="webhook", hosts=("localhost", "127.0.0.1"))
        flags = (
            *("--webhook-bind", _WEBHOOK),
            *("--webhook-cert", str(webhook.certificate)),
            *("--webhook-key", str(webhook.key)),
            *("--lease-duration", "4"),  # one replica: whoever killed it need not wait long for the next
        )
        self._start("operator", self.network.enter, account="arbiter-operator", flags=flags)

    def _start_agent(self, node: Node) -> None:
        flags = (
            *("--node", node.name),
            *("--backend", "simulated"),
            *("--simulated-gpus", str(node.gpus_file)),
            *("--kubelet-dir", str(KUBELET_DIRECTORY)),
            *("--state-dir", str(node.directory / "agent")),
        )
        account = "arbiter-device-plugin"
        self._start(f"device-plugin/{node.name}", node.enter, account=account, flags=flags, node=node.name)

    def _start(
        self, name: str, enter: tuple[str, ...], *, account: str, flags: Sequence[str], node: str | None = None
    ) -> None:
        if self.processes.alive(name):
            return
        kubeconfig = self.control_plane.service_account_kubeconfig(NAMESPACE, account, node=node)
        address, port = self._health[name]
        common = ("--kubeconfig", str(kubeconfig), "--health-bind", f"{address}:{port}", "--vram-unit", VRAM_UNIT)
        self.processes.start(name, (*enter, _ARBITER, name.partition("/")[0], *common, *flags))

    def _start_scheduler(self) -> None:
        kubeconfig = self.control_plane.service_account_kubeconfig(NAMESPACE, "arbiter-scheduler")
        config = self.control_plane.directory / "arbiter-scheduler.yaml"
        config.write_text(scheduler_config(kubeconfig))
        serving = self.control_plane.authority.issue(
            "arbiter-scheduler", common_name="arbiter-scheduler", hosts=(self.network.control_plane,)
        )
        scheduler = (
            str(binaries.directory() / "kube-scheduler"),
            f"--config={config}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={self.network.control_plane}",
            f"--secure-port={_SCHEDULER_PORT}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
        )
        self.processes.start("arbiter-scheduler", (*self.network.enter, *scheduler))

    def _offered(self, node: Node) -> int:
        answer = self.control_plane.get(f"/api/v1/nodes/{node.name}")
        return int(json.loads(answer)["status"]["allocatable"].get(RESOURCE, 0)) if answer else 0


def scheduler_config(kubeconfig: Path) -> str:
    """Returns the chart's configuration of the second kube-scheduler, for one that runs alone outside a pod."""
    (text,) = (one["data"]["scheduler.yaml"] for one in render() if one["kind"] == "ConfigMap")
    config = yaml.safe_load(text)
    config["clientConnection"]["kubeconfig"] = str(kubeconfig)
    config["leaderElection"] = {"leaderElect": False}
    return yaml.safe_dump(config, sort_keys=False)
