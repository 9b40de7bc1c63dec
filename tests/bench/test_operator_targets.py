"""How long the operator takes to decide a node's targets after one pod's demand changed."""

from dataclasses import replace
from itertools import count

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from arbiter.ids import GpuUuid
from arbiter.units import GIB, MIB
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.node import NodeState
from arbiter_operator.targets import plan
from tests.unit.operator.builders import demand, gpu_pod, node, on_node

LESS = count()
"""Bytes by which a demand is smaller each time, since the solver keeps its answers."""


def crowded(gpus: int) -> NodeState:
    """A node with ten movable pods on each GPU, three quarters of what they want, all of them told their targets."""
    pods = [
        gpu_pod(f"chat-{gpu}-{n}", of=demand(floor=4 * GIB - (10 * gpu + n) * MIB), gpus=(GpuUuid(f"GPU-{gpu}"),))
        for gpu in range(gpus)
        for n in range(10)
    ]
    state = node(*pods, grants=tuple(on_node(pod, 7 * 1024) for pod in pods), usable=(75 * GIB,) * gpus)
    told = {change.pod.uid: change.grant for change in plan(state).changes}
    return replace(state, pods=tuple(replace(pod, grant=told[pod.uid]) for pod in pods))


def edited(pod: GpuPod) -> GpuPod:
    wanted = replace(pod.demand, full=pod.demand.full - next(LESS))
    return replace(pod, frozen=replace(pod.frozen, demand=wanted))


@pytest.mark.parametrize("gpus", [8, 1], ids=["of 8 GPUs", "yardstick: of this GPU alone"])
def test_node(gpus: int, benchmark: BenchmarkFixture) -> None:
    benchmark.group = "decide a node's targets after a change on one GPU of 10 pods"
    before = crowded(gpus)
    first, *rest = before.pods

    decided = benchmark(lambda: plan(replace(before, pods=(edited(first), *rest)), before=before))

    assert {change.pod.gpus for change in decided.changes} == {first.gpus}
