"""The operator's metrics; the names are part of Arbiter's API. Imports prometheus_client and the cluster's state."""

from collections import Counter as Count
from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from arbiter.ids import GpuUuid, NodeName
from arbiter.units import parse_quantity
from arbiter_kube.api import SCHEDULER_NAME, VRAM_RESOURCE
from arbiter_kube.api.gpuallocation import Phase
from arbiter_operator.cluster import Cluster
from arbiter_operator.evictions import Cause

PREEMPTIONS = Counter("arbiter_preemptions", "Pods that were evicted so that a more important one has room.")
EVICTIONS = Counter("arbiter_evictions", "Pods that were evicted because their GPU could not keep them.", ["reason"])
QUALITY_CHANGES = Counter("arbiter_quality_changes", "Targets written whose quality went up or down.", ["direction"])

# A counter that appears with its first event hides that event from rates.
for _cause in Cause:
    EVICTIONS.labels(_cause)
for _direction in ("up", "down"):
    QUALITY_CHANGES.labels(_direction)

Prices = Callable[[], dict[tuple[NodeName, GpuUuid], float]]


class ClusterCollector(Collector):
    """What is so right now. Replicas that follow know the same and keep silent, so that sums count it once."""

    def __init__(self, cluster: Cluster, *, prices: Prices, leading: Callable[[], bool]) -> None:
        self._cluster = cluster
        self._prices = prices
        self._leading = leading

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Called at every scrape; what is gone is not told any more."""
        leading = self._leading()
        yield GaugeMetricFamily("arbiter_operator_leading", "Whether this replica writes.", value=leading)
        if leading:
            yield self._price()
            yield self._offered()
            yield from self._qualities()
            yield self._allocations()
            yield self._waiting()

    def _price(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "arbiter_gpu_price",
            "The price of a GPU's memory: -1 everybody has all, above 0 some have less, above 1 scarce.",
            labels=["node", "gpu"],
        )
        for (node, gpu), price in self._prices().items():
            family.add_metric([node, gpu], price)
        return family

    def _offered(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "arbiter_node_allocatable_bytes",
            "Memory of GPUs that the kubelet offers to pods: 0 where no agent is registered with it.",
            labels=["node"],
        )
        for node, state in self._cluster.nodes_with_gpus():
            units = parse_quantity(node.status.allocatable.get(VRAM_RESOURCE, "0"))
            family.add_metric([node.name], float(units * (state.report.unit or self._cluster.unit)))
        return family

    def _qualities(self) -> Iterator[GaugeMetricFamily]:
        target = GaugeMetricFamily("arbiter_quality_target", "Quality that was decided.", labels=["namespace", "pod"])
        applied = GaugeMetricFamily(
            "arbiter_quality_applied", "Quality that the container applied.", labels=["namespace", "pod"]
        )
        minimum = GaugeMetricFamily(
            "arbiter_quality_minimum", "Quality below which a pod is never put.", labels=["namespace", "pod"]
        )
        for _, state in self._cluster.nodes_with_gpus():
            for seat in state.seats.values():
                if seat.pod is None:
                    continue
                labels = [seat.pod.namespace, seat.pod.name]
                minimum.add_metric(labels, float(seat.pod.demand.minimum))
                if seat.pod.grant is not None:
                    target.add_metric(labels, float(seat.pod.grant.quality))
                grant = seat.grant
                if grant is not None and grant.quality is not None and grant.applied == grant.granted:
                    applied.add_metric(labels, grant.quality)
        yield from (target, applied, minimum)

    def _allocations(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("arbiter_allocations", "GpuAllocations by phase.", labels=["phase"])
        phases = Count(one.status.phase or "Pending" for one in self._cluster.allocations.values())
        for phase in get_args(Phase):
            family.add_metric([phase], phases[phase])
        return family

    def _waiting(self) -> GaugeMetricFamily:
        """Those too that kube-scheduler has not looked at: it may not run."""
        family = GaugeMetricFamily(
            "arbiter_pod_waiting_since_timestamp_seconds",
            "When a pod was made that has no node yet.",
            labels=["namespace", "pod"],
        )
        for known in self._cluster.unbound():
            is_ours = known.seen.scheduler_name == SCHEDULER_NAME and not known.seen.terminating
            if is_ours and not known.raw.is_gated:
                family.add_metric([known.seen.namespace, known.seen.name], known.seen.created_at)
        return family
