"""What a histogram says of how long things took."""

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from arbiter_cli.doctor.latency import quantile

NAME = "arbiter_extender_request_seconds"


def told(*seconds: float, verb: str = "filter") -> str:
    """What a process tells after calls that took so long."""
    registry = CollectorRegistry()
    histogram = Histogram(NAME, "Calls.", ["verb"], buckets=(0.001, 0.002, 0.01), registry=registry)
    for one in seconds:
        histogram.labels(verb).observe(one)
    return generate_latest(registry).decode()


CASES = {
    "nobody asked yet": ([told()], None),
    "others were asked": ([told(0.005, verb="bind")], None),
    "all within a bucket: evenly spread over it": ([told(*[0.0015] * 100)], 0.00199),
    "one in a hundred is slow": ([told(*[0.0005] * 99, 0.005)], 0.001),
    "two in a hundred are": ([told(*[0.0005] * 98, 0.005, 0.005)], 0.006),
    "slower than the last bound counts as that": ([told(*[7.0] * 10)], 0.01),
    "replicas are counted together": ([told(*[0.0005] * 98), told(0.005, 0.005)], 0.006),
}


@pytest.mark.parametrize(("texts", "seconds"), CASES.values(), ids=CASES.keys())
def test_99_of_100_took_at_most(texts: list[str], seconds: float | None) -> None:
    found = quantile(texts, NAME, share=0.99, verb="filter")
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_what_is_no_metrics_is_refused() -> None:
    with pytest.raises(ValueError, match="could not convert"):
        quantile([f"{NAME}_bucket nonsense"], NAME, share=0.99)
