"""The agent's metrics; the names are part of Arbiter's API."""

from collections.abc import Callable, Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from arbiter.ids import NodeName
from arbiter_deviceplugin.gpunode import NodeFacts
from arbiter_deviceplugin.monitor import offenders

REGISTRATIONS = Counter("arbiter_registration", "Registrations with the kubelet.", ["result"])
STARTS_HELD = Histogram(
    "arbiter_start_held_seconds",
    "How long starts of containers waited for their floor.",
    ["result"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 25),
)
GRANT_LATENCY = Histogram(
    "arbiter_grant_latency_seconds",
    "From the agent's first sight of a bound pod to the target file in its container.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
SHRINKS_OVERDUE = Counter("arbiter_shrink_overdue", "Shrinks that were not confirmed within their grace.")


class MemoryCollector(Collector):
    """The memory of the node's GPUs as it is when somebody asks; what is gone is not told any more."""

    def __init__(self, node: NodeName, facts: Callable[[], NodeFacts]) -> None:
        self._node = node
        self._facts = facts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every GPU's memory by what it is for, and the containers that use more than they may hold."""
        facts = self._facts()
        vram = GaugeMetricFamily("arbiter_gpu_vram_bytes", "Memory of a GPU.", labels=["node", "gpu", "state"])
        for gpu in facts.reading.gpus:
            here = [status for status in facts.grants if gpu.uuid in status.gpus]
            pods = [pod for status in here if (pod := facts.pods.get(status.uid))]
            sizes = {
                "usable": gpu.usable,
                "floors": sum(pod.demand.floor for pod in pods),
                "granted": sum(status.granted for status in here),
                "held": sum(status.held for status in here),
                "used": gpu.used,
            }
            for state, size in sizes.items():
                if size is not None:
                    vram.add_metric([self._node, gpu.uuid, state], size)
        yield vram
        above = GaugeMetricFamily(
            "arbiter_measured_above_grant_bytes",
            "Memory that a container uses beyond what it may hold.",
            labels=["node", "namespace", "pod"],
        )
        for offender in offenders(facts.grants, facts.pods, facts.reading):
            above.add_metric([self._node, offender.pod.namespace, offender.pod.name], offender.excess)
        yield above
