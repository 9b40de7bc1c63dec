"""How long a process's histogram says that things took. Pure. Imports prometheus_client's parser."""

import math
from collections import defaultdict
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families


def quantile(texts: Iterable[str], metric: str, *, share: float, **labels: str) -> float | None:
    """Seconds within which this share of a histogram's events fell, over everything that the metrics' texts count.

    Between the bounds of a bucket it is taken to rise evenly, as Prometheus's histogram_quantile does; events beyond
    the last bound count as that. None where nothing was counted yet.

    Raises:
        ValueError: a text is none of Prometheus' format.
    """
    buckets: dict[float, float] = defaultdict(float)
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{metric}_bucket" and labels.items() <= sample.labels.items():
                    buckets[float(sample.labels["le"])] += sample.value
    wanted = share * buckets.get(math.inf, 0.0)
    if not wanted:
        return None
    below, count_below = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= wanted:
            return (
                below if bound == math.inf else below + (bound - below) * (wanted - count_below) / (count - count_below)
            )
        below, count_below = bound, count
    return None
