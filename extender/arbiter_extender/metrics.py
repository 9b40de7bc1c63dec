"""What the extender counts. Imports prometheus_client, the reasons of decisions and the ledger."""

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from arbiter_extender.decision import Reason
from arbiter_extender.ledger import Ledger
from arbiter_kube.api.occupancy import Standing

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)


class Metrics:
    """The extender's metrics, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.request_seconds = Histogram(
            "arbiter_extender_request_seconds",
            "How long kube-scheduler waited for an answer.",
            labelnames=("verb",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.rejects = Counter(
            "arbiter_extender_reject",
            "Filter calls that left no node, by the reason of most nodes.",
            labelnames=("reason",),
            registry=registry,
        )
        # A counter that appears with its first event hides that event from rates.
        for reason in Reason:
            self.rejects.labels(reason.name)


class LedgerCollector(Collector):
    """What the ledger counts itself. `clock` is that of soft holds."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Called at every scrape."""
        yield CounterMetricFamily(
            "arbiter_ledger_drift",
            "Pods whose containers use other GPUs than they were bound with.",
            value=self._ledger.drift_total,
        )
        kept = GaugeMetricFamily(
            "arbiter_ledger_promised_pods",
            "Pods without a node that room is kept for: SoftHeld until their bind begins, Assumed until it is over.",
            labels=("standing",),
        )
        promised = self._ledger.promised(now=self._clock())
        for standing in (Standing.SOFT_HELD, Standing.ASSUMED):
            kept.add_metric((standing,), promised[standing])
        yield kept
