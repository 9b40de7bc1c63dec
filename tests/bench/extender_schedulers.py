"""Real kube-schedulers on a filled cluster: how many pods a second they bind, and what every process spends on each."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from arbiter_kube.api.resources import PODS
from arbiter_kube.client.client import Selection
from arbiter_kube.client.store import identity_of
from hack.cluster import binaries
from hack.cluster.chart import scheduler_config
from hack.cluster.controlplane import ControlPlane
from hack.cluster.process import Processes
from tests.bench.extender_site import QUEUE, Cluster, cpu_seconds
from tests.component.extender.support import Extender, eventually

_NAME = "kube-scheduler"
_PATIENCE = 600.0


@dataclass(frozen=True)
class Run:
    """Pods bound per second, and milliseconds of CPU for each, by process."""

    rate: float
    cpu: Mapping[str, float]


@contextmanager
def kube_scheduler(plane: ControlPlane, extender: Extender | None, *, name: str, directory: Path) -> Iterator[int]:
    """One for the pods with this scheduler's name; its pid. Configured as the chart does, without an extender too."""
    config = yaml.safe_load(scheduler_config(plane.admin_kubeconfig))
    config["profiles"] = [{"schedulerName": name}]
    if extender is None:
        # Binds are its own calls then: the chart's limit of them would decide, not what they cost.
        config["clientConnection"] |= {"qps": 5000, "burst": 5000}
        del config["extenders"]
    else:
        config["extenders"][0]["urlPrefix"] = f"http://{extender.address}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    processes = Processes(directory, die_with_parent=True)
    program = str(binaries.directory() / _NAME)
    processes.start(_NAME, (program, f"--config={directory / 'config.yaml'}", "--secure-port=0"))
    try:
        yield processes.pid(_NAME)
    finally:
        processes.stop(_NAME)


async def schedule(
    cluster: Cluster, plane: ControlPlane, extender: Extender | None, *, name: str, count: int, directory: Path
) -> Run:
    """Lets so many pods be bound, all of which wait when kube-scheduler starts, and takes them away again."""
    await cluster.add_waiting_pods(count, scheduler=name)
    with kube_scheduler(plane, extender, name=name, directory=directory) as pid:
        pids = {_NAME: pid, "API server": plane.processes.pid("kube-apiserver"), "etcd": plane.processes.pid("etcd")}
        if extender is not None:
            pids["extender"] = extender.pid
        async with asyncio.timeout(_PATIENCE):
            await _until(cluster, name, every=0.05, bound=True)
            left = len((await cluster.client.page(PODS, _without_node(name))).items or ())
            assert left, f"All {count} pods were bound before anybody looked: let more wait."
            started, before = time.perf_counter(), {who: cpu_seconds(pid) for who, pid in pids.items()}
            await _until(cluster, name, every=0.2, bound=False)
            taken = time.perf_counter() - started
            cpu = {who: (cpu_seconds(pid) - before[who]) / left * 1000 for who, pid in pids.items()}
    await cluster.remove_waiting_pods(count, scheduler=name)
    return Run(left / taken, cpu)


async def turns(cluster: Cluster, count: int) -> list[float]:
    """How many seconds each pod of `Cluster.add_queue` waited for the end of the one before it."""
    waits, last = [], await _at_the_end(cluster)
    for _ in range(count):
        await asyncio.sleep(0.5)  # until all others have been refused, and wait
        started = time.perf_counter()
        await cluster.client.delete(PODS, last, namespace="default", grace=0)
        last = await _at_the_end(cluster)
        waits.append(time.perf_counter() - started)
    return waits


async def _at_the_end(cluster: Cluster) -> str:
    """The pod that the queue has led to its node."""
    there = Selection(field_selector=f"spec.nodeName={QUEUE}")

    async def look() -> str | None:
        items = (await cluster.client.page(PODS, there, limit=1)).items
        return identity_of(items[0]).name if items else None

    return await eventually(look, f"pod on {QUEUE}")


async def _until(cluster: Cluster, scheduler: str, *, every: float, bound: bool) -> None:
    """Waits until one of a scheduler's pods is bound, or none is left to bind. Each look costs milliseconds."""
    selection = _bound(scheduler) if bound else _without_node(scheduler)
    while True:
        found = (await cluster.client.page(PODS, selection, limit=1)).items
        if bool(found) is bound:
            return
        await asyncio.sleep(every)


def _bound(scheduler: str) -> Selection:
    return Selection(field_selector=f"spec.schedulerName={scheduler},spec.nodeName!=")


def _without_node(scheduler: str) -> Selection:
    return Selection(field_selector=f"spec.schedulerName={scheduler},spec.nodeName=")
