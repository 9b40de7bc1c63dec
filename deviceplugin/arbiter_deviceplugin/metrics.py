"""The agent's metrics; the names are part of Arbiter's API."""

from collections import Counter as Count
from collections.abc import Callable, Iterator
from dataclasses import replace

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from arbiter.ids import GpuUuid, NodeName
from arbiter.transitions import GrantState, GrantStatus
from arbiter_deviceplugin.gpunode import NodeFacts, undated_conditions
from arbiter_deviceplugin.monitor import measured_use, offenders

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

# A counter that appears with its first event hides that event from rates.
for _result in ("registered", "failed"):
    REGISTRATIONS.labels(_result)
for _result in ("released", "refused"):
    STARTS_HELD.labels(_result)

_OF_A_GPU = (
    "Memory of a GPU: usable, floors (promised), granted (told to containers), held (what they may still hold), "
    "used (measured)."
)
_OF_A_POD = (
    "Memory of a GPU that a pod asks for (full, floor), was told (granted), may still hold (held) and uses (used)."
)


class NodeCollector(Collector):
    """The node's GPUs and who has what of them, as it is when somebody asks; what is gone is not told any more."""

    def __init__(self, node: NodeName, facts: Callable[[], NodeFacts]) -> None:
        self._node = node
        self._facts = facts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Called at every scrape."""
        facts = self._facts()
        yield self._memory(facts)
        yield self._health(facts)
        yield self._conditions(facts)
        yield self._shares(facts)
        yield self._states(facts)
        yield self._waiting(facts)
        yield self._offenders(facts)

    def _memory(self, facts: NodeFacts) -> GaugeMetricFamily:
        family = GaugeMetricFamily("arbiter_gpu_vram_bytes", _OF_A_GPU, labels=["node", "gpu", "state"])
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
                    family.add_metric([self._node, gpu.uuid, state], size)
        return family

    def _health(self, facts: NodeFacts) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "arbiter_gpu_healthy", "Whether a GPU is offered to containers.", labels=["node", "gpu", "index", "model"]
        )
        for gpu in facts.reading.gpus:
            family.add_metric([self._node, gpu.uuid, str(gpu.index), gpu.name], gpu.healthy)
        return family

    def _conditions(self, facts: NodeFacts) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "arbiter_node_condition", "Whether a condition of the GpuNode is True.", labels=["node", "condition"]
        )
        for condition in undated_conditions(facts):
            family.add_metric([self._node, condition.type], condition.status == "True")
        return family

    def _shares(self, facts: NodeFacts) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "arbiter_pod_vram_bytes",
            _OF_A_POD,
            labels=["node", "gpu", "namespace", "pod", "state"],
        )
        # A pod that is gone may still hold what its successor of the same name waits for: their sum is one series.
        sizes: Count[tuple[str, ...]] = Count()
        for status in facts.grants:
            for gpu in status.gpus:
                for state, size in _share(facts, status, gpu).items():
                    if size is not None:
                        sizes[gpu, *status.name.split("/", 1), state] += size
        for labels, size in sizes.items():
            family.add_metric([self._node, *labels], size)
        return family

    def _states(self, facts: NodeFacts) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "arbiter_grant_state",
            f"Where a container stands with its memory ({', '.join(GrantState)}); always 1.",
            labels=["node", "namespace", "pod", "state"],
        )
        for labels in {(*status.name.split("/", 1), status.state): None for status in facts.grants}:
            family.add_metric([self._node, *labels], 1)
        return family

    def _waiting(self, facts: NodeFacts) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "arbiter_floor_waiting",
            "A container that may not start yet, since its floor is not free; always 1.",
            labels=["node", "namespace", "pod"],
        )
        for labels in {tuple(status.name.split("/", 1)): None for status in facts.grants if status.waiting}:
            family.add_metric([self._node, *labels], 1)
        return family

    def _offenders(self, facts: NodeFacts) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "arbiter_measured_above_grant_bytes",
            "Memory that a container uses beyond what it may hold.",
            labels=["node", "namespace", "pod"],
        )
        for offender in offenders(facts.grants, facts.pods, facts.reading):
            family.add_metric([self._node, offender.pod.namespace, offender.pod.name], offender.excess)
        return family


def _share(facts: NodeFacts, status: GrantStatus, gpu: GpuUuid) -> dict[str, int | None]:
    """Bytes of one GPU by what they are to the pod; None where that cannot be told."""
    pod = facts.pods.get(status.uid)
    return {
        "full": pod.demand.full if pod else None,
        "floor": pod.demand.floor if pod else None,
        "granted": status.granted,
        "held": status.held,
        "used": measured_use(facts.reading, replace(status, gpus=(gpu,)), pod),
    }
