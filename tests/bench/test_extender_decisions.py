"""What kube-scheduler's questions cost the extender's CPU, in one process and without HTTP.

CPU time of this thread, so that busy neighbours change it little. Each pod is asked about, held, bound and shown bound,
as in a cluster that is being filled. The yardstick is the smaller cluster of the same run. Each test prints a row of
the table in docs/performance.md, p50/p90/p99 in ms.
"""

import gc
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from arbiter.ids import NodeName
from arbiter_extender.decision import FilterAnswer, Refusal, filter_nodes, plan_bind, prioritize
from arbiter_extender.ledger import Ledger
from arbiter_kube.api.pods import GpuPod
from tests.bench.extender_site import GPUS, SIZES, percentile
from tests.unit.extender.builders import NOW, UNIT, a_node, a_pod

POD_COUNT = 300
KINDS = 20

CLUSTERS = {"1,000 nodes, 4,000 pods": (1000, 4000), "1,000 nodes, 16,000 pods": (1000, 16000)} | {
    "5,000 nodes, 10,000 pods": (5000, 10000)
}


def a_cluster(*, nodes: int, pods: int) -> Ledger:
    """Nodes of 8 GPUs of 24 GiB, and pods of five kinds on GPUs that have room for them."""
    ledger, chance = Ledger(unit=UNIT), random.Random(7)
    free = {}
    for number in range(nodes):
        node = a_node(f"n{number:05}")
        for index in range(GPUS):
            node = node.gpu(f"{node.name}-{index}", "24Gi")
            free[f"{node.name}-{index}"] = 24
        ledger.report_applied(NodeName(node.name), node.report)
    gpus = [*free]
    for number in range(pods):
        pod = a_pod(f"bound-{number}").sizes(full=SIZES[number % 5][0], floor=SIZES[number % 5][1])
        while free[gpu := chance.choice(gpus)] < pod.pod.slices:
            pass
        free[gpu] -= pod.pod.slices
        ledger.pod_applied(pod.bound(gpu.rpartition("-")[0], gpu).pod)
    ledger.settle()
    return ledger


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_cpu_of_a_pod(cluster: str, capsys: pytest.CaptureFixture[str]) -> None:
    nodes, pods = CLUSTERS[cluster]
    ledger = a_cluster(nodes=nodes, pods=pods)
    names = ledger.nodes()
    # What is here stays, as in the extender once it is ready.
    gc.collect()
    gc.freeze()
    spent: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(KINDS):
        pod = a_pod(f"new-{number}").sizes(full=f"{4 * 1024 + 256 * number}Mi", floor="4Gi").pod
        _take(spent, "a new kind", partial(prioritize, ledger, pod, names))
    for full, floor in SIZES:
        prioritize(ledger, a_pod("known").sizes(full=full, floor=floor).pod, names)
    for number in range(POD_COUNT):
        full, floor = SIZES[number % len(SIZES)]
        pod = a_pod(f"asked-{number}").sizes(full=full, floor=floor).pod
        _take(spent, "filter all", partial(filter_nodes, ledger, pod, names))
        _take(spent, "prioritize", partial(prioritize, ledger, pod, names))
        _take(spent, "filter best", partial(filter_nodes, ledger, pod, names, answer=FilterAnswer.BEST))
        _take(spent, "choose, hold, bind, show", partial(_place, ledger, pod, names))
    gc.unfreeze()
    cells = [
        " / ".join(f"{percentile(times, share) * 1000:.2f}" for share in (0.5, 0.9, 0.99)) for times in spent.values()
    ]
    with capsys.disabled():
        print("\n|", " | ".join(["nodes, pods", *spent]), "|")
        print("|", " | ".join([f"{nodes:,}, {pods:,}", *cells]), "|", end="")


def _take(spent: dict[str, list[float]], what: str, do: Callable[[], object]) -> None:
    started = time.thread_time()
    do()
    spent[what].append(time.thread_time() - started)


def _place(ledger: Ledger, pod: GpuPod, names: tuple[NodeName, ...]) -> None:
    """A pod's whole way, its node's part of the index made up to date after each step."""
    best = prioritize(ledger, pod, names)
    assert best is not None
    ledger.hold(pod, best, until=NOW)
    ledger.settle()
    plan = plan_bind(ledger, pod, best.node)
    assert not isinstance(plan, Refusal)
    ledger.assume(pod, plan)
    ledger.settle()
    ledger.pod_applied(replace(pod, node=plan.node, gpus=plan.gpus))
    ledger.settle()
