"""Where the operator is measured: an API server, real or stood in for, a filled cluster, and what the operator wrote.

Imports the cluster of written objects, the local control plane and the operator of the component tests.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from arbiter.units import GIB
from arbiter_kube.api.resources import GPU_NODES, QUALITY_POLICIES
from arbiter_kube.client import KubeClient, KubeError
from hack.cluster import binaries
from hack.cluster.chart import render, rights
from hack.cluster.controlplane import ControlPlane
from hack.cluster.paths import REPOSITORY
from hack.cluster.pki import Authority
from tests.bench.extender_site import Cluster
from tests.component.operator.support import Operator, free_port

QUIET_SECONDS = 5.0
LEASE_SECONDS = 10


class Writes:
    """Everything but the lease that the operator wrote, read from the audit log from here on."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = log.stat().st_size
        self.of_pods: list[float] = []
        """When each target was written, in seconds since the epoch."""
        self.by_pod: Counter[str] = Counter()
        self.of_status = 0
        self.of_events = 0

    def read(self) -> int:
        """How many there are by now."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self._count(json.loads(line))
        return len(self.of_pods) + self.of_status + self.of_events

    def _count(self, event: dict[str, Any]) -> None:
        resource = event.get("objectRef", {}).get("resource")
        if event["verb"] in ("get", "list", "watch") or resource in ("leases", None):
            return
        if resource == "pods":
            self.of_pods.append(datetime.fromisoformat(event["stageTimestamp"]).timestamp())
            self.by_pod[event["objectRef"]["name"]] += 1
        elif resource == "events":
            self.of_events += 1
        else:
            self.of_status += 1


@dataclass(frozen=True)
class Bench:
    """A cluster, and the operator that follows it; `run` runs a coroutine on the client's loop."""

    client: KubeClient
    cluster: Cluster
    operator: Operator
    audit_log: Path
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def writes(self) -> Writes:
        """From here on."""
        return Writes(self.audit_log)

    async def add_node(self, name: str) -> str:
        """A node with one GPU of 24 GiB; returns the GPU."""
        uuid = f"{name}-gpu-0"
        gpu = {"uuid": uuid, "index": 0, "name": "SIM", "total": 24 * GIB, "reserved": 0, "usable": 24 * GIB}
        await self.client.create(GPU_NODES, {"metadata": {"name": name}})
        await self.client.patch(GPU_NODES, name, {"status": {"unit": GIB, "gpus": [gpu]}}, subresource="status")
        return uuid

    def wait_quiet(self) -> None:
        """Returns once the operator has written nothing for a while but events, which it writes five of a second."""
        writes = self.writes()
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            before = writes.read() - writes.of_events
            time.sleep(QUIET_SECONDS)
            if writes.read() - writes.of_events == before:
                return
        raise AssertionError("The operator never comes to rest.")


@contextmanager
def real(directory: Path) -> Iterator[Bench]:
    """With a real API server and etcd; nobody has been added yet."""
    binaries.ensure([binaries.HELM])
    policy = [one for one in render() if one["kind"] == "QualityPolicy"]
    with ControlPlane(directory / "plane") as plane:
        plane.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
        for objects in (rights("operator"), policy):
            plane.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all(objects))
        as_operator = plane.service_account_kubeconfig("arbiter-system", "arbiter-operator")
        with _following(directory, as_operator, plane.admin_kubeconfig, audit_log=plane.audit_log) as bench:
            yield bench


@contextmanager
def stood_in_for(directory: Path) -> Iterator[Bench]:
    """With an API server in memory, which takes thousands of writes a second; nobody has been added yet."""
    port, audit_log, kubeconfig = free_port(), directory / "audit.log", directory / "kubeconfig"
    audit_log.touch()
    kubeconfig.write_text(yaml.safe_dump(_kubeconfig(f"http://127.0.0.1:{port}")))
    command = [sys.executable, "-m", "tests.bench.api_stand_in", f"--port={port}", f"--audit-log={audit_log}"]
    with subprocess.Popen(command, cwd=REPOSITORY) as server:
        try:
            with _following(directory, kubeconfig, kubeconfig, audit_log=audit_log) as bench:
                policy = {"metadata": {"name": "default"}, "spec": {}}
                bench.run(_once_it_answers(lambda: bench.client.create(QUALITY_POLICIES, policy)))
                yield bench
        finally:
            server.terminate()


@contextmanager
def _following(directory: Path, as_operator: Path, as_admin: Path, *, audit_log: Path) -> Iterator[Bench]:
    serving = Authority(directory / "webhook-pki").issue("webhook", common_name="webhook", hosts=("127.0.0.1",))
    operator = Operator(
        as_operator,
        certificate=serving.certificate,
        key=serving.key,
        log=directory / "operator.log",
        lease_duration=LEASE_SECONDS,
    )
    with asyncio.Runner() as runner:
        client = runner.run(KubeClient.connect(as_admin, component="bench"))
        yield Bench(client, Cluster(client), operator, audit_log, runner.run)
        operator.stop()
        runner.run(client.close())


async def _once_it_answers(call: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await call()
            except KubeError:
                await asyncio.sleep(0.1)
            else:
                return


def _kubeconfig(server: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": server}}],
        "users": [{"name": "bench", "user": {}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    }
