"""The operator's metrics; the names are part of Arbiter's API. Imports prometheus_client and the cluster's state."""

from collections import Counter as Count
from collections.abc import Callable, Iterator

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from arbiter.ids import GpuUuid, NodeName
from arbiter_operator.cluster import Cluster

PREEMPTIONS = Counter("arbiter_preemptions", "Pods that were evicted so that a more important one has room.")
EVICTIONS = Counter("arbiter_evictions", "Pods that were evicted because their GPU could not keep them.", ["reason"])
QUALITY_CHANGES = Counter("arbiter_quality_changes", "Targets written whose quality went up or down.", ["direction"])

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
            yield from self._qualities()
            yield self._allocations()

    def _price(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "arbiter_gpu_price",
            "The price of a GPU's memory: -1 everybody has all, above 0 some have less, above 1 scarce.",
            labels=["node", "gpu"],
        )
        for (node, gpu), price in self._prices().items():
            family.add_metric([node, gpu], price)
        return family

    def _qualities(self) -> Iterator[GaugeMetricFamily]:
        target = GaugeMetricFamily("arbiter_quality_target", "Quality that was decided.", labels=["namespace", "pod"])
        applied = GaugeMetricFamily(
            "arbiter_quality_applied", "Quality that the container applied.", labels=["namespace", "pod"]
        )
        for _, state in self._cluster.nodes_with_gpus():
            for seat in state.seats.values():
                if seat.pod is None:
                    continue
                labels = [seat.pod.namespace, seat.pod.name]
                if seat.pod.grant is not None:
                    target.add_metric(labels, float(seat.pod.grant.quality))
                grant = seat.grant
                if grant is not None and grant.quality is not None and grant.applied == grant.granted:
                    applied.add_metric(labels, grant.quality)
        yield target
        yield applied

    def _allocations(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("arbiter_allocations", "GpuAllocations by phase.", labels=["phase"])
        phases = Count(one.status.phase or "Pending" for one in self._cluster.allocations.values())
        for phase, count in phases.items():
            family.add_metric([phase], count)
        return family
