"""The inverse of what is published: the best quality for a given size."""

from dataclasses import replace
from fractions import Fraction

import pytest

from arbiter.demand import Demand, DemandRequest, Level, resolve
from arbiter.units import GIB, MIB
from arbiter.workload import WorkloadType

CHAT = resolve(DemandRequest(workload_type=WorkloadType.LLM_INFERENCE, full=10 * GIB, floor=4 * GIB))
STEPS = resolve(
    DemandRequest(
        workload_type=WorkloadType.LLM_INFERENCE,
        full=10 * GIB,
        floor=4 * GIB,
        levels=(Level(quality=Fraction("0.7"), vram=7 * GIB),),
    )
)
FIXED = resolve(DemandRequest(workload_type=WorkloadType.LLM_INFERENCE, full=5 * GIB + 1, floor=5 * GIB + 1))
TINY = replace(CHAT, floor=4 * GIB, full=4 * GIB + 3 * MIB)


@pytest.mark.parametrize(
    ("demand", "vram", "at_most", "expected"),
    {
        "full": (CHAT, 10 * GIB, None, (Fraction(1), 10 * GIB)),
        "more than full": (CHAT, 99 * GIB, None, (Fraction(1), 10 * GIB)),
        "floor": (CHAT, 4 * GIB, None, (Fraction("0.4"), 4 * GIB)),
        "less than the floor": (CHAT, 0, None, (Fraction("0.4"), 4 * GIB)),
        "the golden 9256Mi": (CHAT, 9256 * MIB, None, (Fraction("0.904"), 9256 * MIB)),
        "one byte less": (CHAT, 9256 * MIB - 1, None, (Fraction("0.903"), 9246 * MIB)),
        "no better than allowed": (CHAT, 10 * GIB, Fraction("0.5"), (Fraction("0.5"), 5 * GIB)),
        "allowed less than the minimum": (CHAT, 10 * GIB, Fraction("0.1"), (Fraction("0.4"), 4 * GIB)),
        "between levels": (STEPS, 9 * GIB, None, (Fraction("0.7"), 7 * GIB)),
        "below the second level": (STEPS, 7 * GIB - 1, None, (Fraction("0.4"), 4 * GIB)),
        "fixed": (FIXED, 0, None, (Fraction(1), 5 * GIB + 1)),
        "many qualities of one size": (TINY, 4 * GIB, None, (Fraction("0.599"), 4 * GIB)),
    }.values(),
)
def test_the_best_quality_that_fits(
    demand: Demand, vram: int, at_most: Fraction | None, expected: tuple[Fraction, int]
) -> None:
    assert demand.fitting(vram, at_most=at_most) == expected


@pytest.mark.parametrize("demand", [CHAT, STEPS, FIXED, TINY])
def test_what_is_published_fits_itself(demand: Demand) -> None:
    for thousandth in range(int(demand.minimum * 1000), int(demand.maximum * 1000) + 1):
        quality, vram = demand.published(Fraction(thousandth, 1000))
        assert demand.fitting(vram, at_most=quality) == (quality, vram)
