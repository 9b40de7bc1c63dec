"""The operator's own CPU with 10,000 pods on 1,250 nodes: its state and engine in this process, and no API server.

What a write leaves is there at once. The event loop's clock is virtual, so that it goes on only once all work is done.
Times are CPU time, which neighbours change little.
"""

import asyncio
import gc
import itertools
import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec
import pytest

from arbiter.ids import PodUid
from arbiter.units import GIB, MIB
from arbiter_kube.api import annotations as a
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import Pod
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_kube.client import codec
from arbiter_kube.client.events import EventRecorder
from arbiter_operator.cluster import Cluster
from arbiter_operator.engine import Engine
from arbiter_operator.writer import Writer
from tests.bench.extender_site import GPUS, a_waiting_pod, manifest, percentile
from tests.support import virtual_time
from tests.unit.extender.builders import a_node

NODES = 1250
EDITS = 300
ANOTHER = {"mode": "DiffusionFirst", "pressureThreshold": 0.2}


class Memory:
    """Writes that succeed at once, and change nothing but the state that they are read from."""

    def __init__(self, cluster: Cluster) -> None:
        self.writes = 0
        self.begun = asyncio.Event()
        self._cluster = cluster
        self._versions = itertools.count(1_000_000)

    async def annotate(self, pod: GpuPod, annotations: Mapping[str, str]) -> Pod:
        self.writes += 1
        self.begun.set()
        await asyncio.sleep(0)
        return self.changed(pod.uid, annotations)

    def changed(self, uid: PodUid, annotations: Mapping[str, str]) -> Pod:
        """The pod with these annotations, in a new version."""
        known = self._cluster.pod(uid)
        assert known is not None
        before = known.raw.metadata
        after = msgspec.structs.replace(
            before, annotations={**before.annotations, **annotations}, resource_version=str(next(self._versions))
        )
        return msgspec.structs.replace(known.raw, metadata=after)

    async def status(self, *_: object) -> None:
        """Nobody reads it here."""


class Silence:
    """Events that nobody writes."""

    def record(self, notice: object) -> None:
        """Forgets it."""


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\noperator in process, {NODES} nodes, {NODES * GPUS} pods: {text}", end="", flush=True)

    return line


def uid_of(number: int) -> PodUid:
    return PodUid(f"uid-{number}")


def filled() -> Cluster:
    """A pod for each GPU, at random on its node."""
    cluster, chance = Cluster(unit=GIB), random.Random(7)
    for number in range(NODES):
        name = f"node-{number:05}"
        node = a_node(name)
        for index in range(GPUS):
            node = node.gpu(f"{name}-gpu-{index}", "24Gi")
        for pod in range(number * GPUS, (number + 1) * GPUS):
            builder = a_waiting_pod(f"bound-{pod}", kind=pod)
            body: Any = manifest(builder, node=name, gpu=f"{name}-gpu-{chance.randrange(GPUS)}")
            body["metadata"] |= {"namespace": "default", "uid": uid_of(pod), "resourceVersion": str(pod + 1)}
            cluster.pod_applied(codec.decode(json.dumps(body).encode(), Pod))
        cluster.report_applied(GpuNode.model_validate({"metadata": {"name": name}, "status": node.status}))
    cluster.policy_applied(policy({}))
    return cluster


def policy(spec: dict[str, Any], *, version: int = 1) -> QualityPolicy:
    metadata = {"name": "default", "resourceVersion": str(version)}
    return QualityPolicy.model_validate({"metadata": metadata, "spec": spec})


def test_what_an_edit_and_a_new_policy_for_everybody_cost(say: Callable[[str], None]) -> None:
    virtual_time.run(_edits_and_a_policy(say))


async def _edits_and_a_policy(say: Callable[[str], None]) -> None:
    logging.getLogger("arbiter_operator").setLevel(logging.WARNING)
    cluster = filled()
    gc.collect()
    gc.freeze()  # as the operator does once it has read everything
    memory = Memory(cluster)
    engine = Engine(cluster, writer=cast("Writer", memory), recorder=cast("EventRecorder", Silence()))
    running, begun = asyncio.create_task(engine.run()), time.process_time()
    await asyncio.sleep(1)
    say(f"{memory.writes} first targets in {time.process_time() - begun:.1f} s of CPU")

    chance, spent = random.Random(3), 0.0
    for less in range(1, EDITS + 1):
        number = chance.randrange(NODES * GPUS)
        demand = a_waiting_pod("any", kind=number).pod.demand
        smaller = a_waiting_pod("any", kind=number).sizes(full=str(demand.full + less * MIB), floor=str(demand.floor))
        changed = memory.changed(uid_of(number), {a.DEMAND: a.encode_demand(smaller.pod.frozen)})
        begun = time.process_time()
        cluster.pod_applied(changed)
        engine.wake()
        await asyncio.sleep(1)
        spent += time.process_time() - begun
    say(f"{spent / EDITS * 1000:.1f} ms of CPU for each edit of a demand")

    before, begun = memory.writes, time.process_time()
    memory.begun.clear()
    cluster.policy_applied(policy(ANOTHER, version=2))
    engine.wake()
    # The clock stands still while turns are counted: counted before, the debounce would never end.
    await memory.begun.wait()
    waits = await _turns(memory)
    await asyncio.sleep(1)
    again = time.process_time() - begun
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    shown = "/".join(f"{percentile(waits, share) * 1000:.1f}" for share in (0.5, 0.99, 1.0))
    say(
        f"another policy: {memory.writes - before} targets in {again:.1f} s of CPU, while everything else on the event "
        f"loop waits {shown} ms of it for a turn (p50/p99/longest)"
    )
    assert memory.writes - before > NODES


async def _turns(memory: Memory) -> list[float]:
    """How long each turn of the event loop takes, until there were as many without a write as there are nodes."""
    waits, before, without = list[float](), memory.writes, 0
    while without < NODES:
        begun = time.thread_time()
        await asyncio.sleep(0)
        waits.append(time.thread_time() - begun)
        before, without = memory.writes, 0 if memory.writes != before else without + 1
    return waits[:-NODES]
