"""What a request becomes once its defaults are filled in, why it may be refused, and what is published of it."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from arbiter.demand import (
    Demand,
    DemandDefaults,
    DemandRequest,
    InvalidDemandError,
    Level,
    format_quality,
    resolve,
)
from arbiter.units import GIB, MIB
from arbiter.workload import Priority, Resize, WorkloadType

LLM = DemandRequest(workload_type=WorkloadType.LLM_INFERENCE)
IMAGE = DemandRequest(workload_type=WorkloadType.IMAGE_GENERATION)
VIDEO = DemandRequest(workload_type=WorkloadType.VIDEO_GENERATION)


def level(quality: str, gib: float) -> Level:
    return Level(quality=Fraction(quality), vram=int(gib * GIB))


BASE = Demand(
    workload_type=WorkloadType.LLM_INFERENCE,
    priority=Priority.NORMAL,
    full=10 * GIB,
    floor=4 * GIB,
    maximum=Fraction(1),
    minimum=Fraction("0.4"),
)

HALF = Fraction("0.5")

RESOLVED = {
    "an LLM says nothing": (LLM, replace(BASE, full=8 * GIB, floor=3276 * MIB)),
    "an image says nothing": (
        IMAGE,
        replace(
            BASE,
            workload_type=WorkloadType.IMAGE_GENERATION,
            full=6 * GIB,
            floor=1843 * MIB,
            minimum=Fraction("0.3"),
        ),
    ),
    "a video says nothing": (
        VIDEO,
        replace(
            BASE, workload_type=WorkloadType.VIDEO_GENERATION, full=12 * GIB, floor=3 * GIB, minimum=Fraction("0.25")
        ),
    ),
    "full alone sets the floor": (replace(LLM, full=10 * GIB), BASE),
    "a floor above the type's share raises the minimum": (
        replace(LLM, full=10 * GIB, floor=7 * GIB),
        replace(BASE, floor=7 * GIB, minimum=Fraction("0.7")),
    ),
    "a floor below the type's share leaves it": (
        replace(LLM, full=10 * GIB, floor=2 * GIB),
        replace(BASE, floor=2 * GIB),
    ),
    "a floor just below full leaves something to move": (
        replace(LLM, full=10 * GIB, floor=10 * GIB - MIB),
        replace(BASE, floor=10 * GIB - MIB, minimum=Fraction("0.999")),
    ),
    "a minimum sets the floor": (replace(LLM, full=10 * GIB, minimum=HALF), replace(BASE, floor=5 * GIB, minimum=HALF)),
    "minimum and floor need not be in proportion": (
        replace(LLM, full=10 * GIB, floor=4 * GIB, minimum=HALF),
        replace(BASE, minimum=HALF),
    ),
    "a lower maximum is what full is for": (
        replace(LLM, full=10 * GIB, maximum=HALF),
        replace(BASE, maximum=HALF, floor=8 * GIB),
    ),
    "a maximum at the type's minimum is fixed": (
        replace(LLM, full=10 * GIB + 1, maximum=Fraction("0.4")),
        replace(BASE, full=10 * GIB + 1, floor=10 * GIB + 1, maximum=Fraction("0.4")),
    ),
    "floor equal to full is fixed at the maximum": (
        replace(LLM, full=10 * GIB, floor=10 * GIB),
        replace(BASE, floor=10 * GIB, minimum=Fraction(1)),
    ),
    "AtStart without a floor is fixed": (
        replace(LLM, full=10 * GIB, resize=Resize.AT_START),
        replace(BASE, floor=10 * GIB, minimum=Fraction(1), resize=Resize.AT_START),
    ),
    "AtStart with a floor is not": (
        replace(LLM, full=10 * GIB, floor=4 * GIB, resize=Resize.AT_START),
        replace(BASE, resize=Resize.AT_START),
    ),
    "levels are completed by floor and full": (
        replace(LLM, full=10 * GIB, floor=4 * GIB, levels=(level("0.7", 7),)),
        replace(BASE, levels=(level("0.4", 4), level("0.7", 7), level("1", 10))),
    ),
    "levels may repeat floor and full": (
        replace(LLM, full=10 * GIB, floor=4 * GIB, levels=(level("0.4", 4), level("0.7", 7), level("1", 10))),
        replace(BASE, levels=(level("0.4", 4), level("0.7", 7), level("1", 10))),
    ),
    "qualities are kept in thousandths, within what was asked": (
        replace(LLM, full=10 * GIB, floor=4 * GIB, minimum=Fraction("0.40051"), maximum=Fraction("0.99999")),
        replace(BASE, minimum=Fraction("0.401"), maximum=Fraction("0.999")),
    ),
    "sizes below a MiB": (replace(LLM, full=10), replace(BASE, full=10, floor=4)),
    "everything else is taken over": (
        replace(LLM, full=10 * GIB, priority=Priority.HIGH, gpu_count=2, shrink_grace=5.0),
        replace(BASE, priority=Priority.HIGH, gpu_count=2, shrink_grace=5.0),
    ),
}


@pytest.mark.parametrize(("request_", "demand"), RESOLVED.values(), ids=RESOLVED.keys())
def test_a_request_is_resolved(request_: DemandRequest, demand: Demand) -> None:
    assert resolve(request_) == demand


def test_the_policy_moves_the_types_least_quality_and_the_shrink_grace() -> None:
    defaults = DemandDefaults(minimum_quality={WorkloadType.LLM_INFERENCE: Fraction("0.6")}, shrink_grace=7.0)

    assert resolve(replace(LLM, full=10 * GIB), defaults=defaults) == replace(
        BASE, floor=6 * GIB, minimum=Fraction("0.6"), shrink_grace=7.0
    )
    assert resolve(IMAGE, defaults=defaults).minimum == Fraction("0.3")


TEN, RISING = replace(LLM, full=10 * GIB), "spec.vram.levels must rise from quality 0.400 at 4Gi to 1.000 at 10Gi; "

REFUSED = {
    "a floor above full": (
        replace(TEN, floor=12 * GIB),
        "floor 12Gi is larger than full 10Gi; lower spec.vram.floor or raise spec.vram.full.",
    ),
    "a full size of nothing": (replace(LLM, full=0), "spec.vram.full must be above 0, it is 0."),
    "a floor of nothing": (replace(LLM, floor=0), "spec.vram.floor must be above 0, it is 0."),
    "a maximum above 1": (
        replace(LLM, maximum=Fraction("1.5")),
        "spec.quality.maximum must be above 0 and at most 1, it is 1.5.",
    ),
    "a minimum of 0": (
        replace(LLM, minimum=Fraction(0)),
        "spec.quality.minimum must be above 0 and at most 1, it is 0.",
    ),
    "a minimum below the type's": (
        replace(LLM, minimum=Fraction("0.2")),
        "spec.quality.minimum 0.200 is below 0.400, the least quality of LlmInference; raise it or leave it out.",
    ),
    "a maximum below the type's minimum": (
        replace(LLM, maximum=Fraction("0.3")),
        "spec.quality.maximum 0.300 is below 0.400, the least quality of LlmInference; raise it or leave it out.",
    ),
    "a minimum above the maximum": (
        replace(LLM, minimum=Fraction("0.8"), maximum=HALF),
        "spec.quality.minimum 0.800 is above spec.quality.maximum 0.500; lower the minimum or raise the maximum.",
    ),
    "two sizes at one quality": (
        replace(TEN, floor=4 * GIB, minimum=Fraction(1)),
        "at one quality, 1.000, floor 4Gi and full 10Gi must be equal; "
        "lower spec.quality.minimum or leave out spec.vram.floor.",
    ),
    "no GPU": (replace(LLM, gpu_count=0), "spec.gpuCount must be 1 to 16, it is 0."),
    "more GPUs than a node has": (replace(LLM, gpu_count=17), "spec.gpuCount must be 1 to 16, it is 17."),
    "a negative grace": (replace(LLM, shrink_grace=-1.0), "spec.shrinkGrace must not be negative, it is -1s."),
    "levels that fall in bytes": (
        replace(TEN, floor=4 * GIB, levels=(level("0.6", 8), level("0.7", 7))),
        RISING + "0.700 at 7Gi follows 0.600 at 8Gi.",
    ),
    "levels of the same bytes": (
        replace(TEN, floor=4 * GIB, levels=(level("0.6", 7), level("0.7", 7))),
        RISING + "0.700 at 7Gi follows 0.600 at 7Gi.",
    ),
    "a level below the floor": (
        replace(TEN, floor=4 * GIB, levels=(level("0.3", 3),)),
        RISING + "0.300 at 3Gi follows 0.400 at 4Gi.",
    ),
    "a level above full": (
        replace(TEN, floor=4 * GIB, levels=(level("0.7", 12),)),
        RISING + "1.000 at 10Gi follows 0.700 at 12Gi.",
    ),
    "levels of a fixed size": (
        replace(TEN, resize=Resize.AT_START, levels=(level("0.7", 7),)),
        "spec.vram.levels need a floor below full 10Gi; write a lower spec.vram.floor or leave the levels out.",
    ),
}


@pytest.mark.parametrize(("request_", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_a_request_is_refused_with_one_sentence(request_: DemandRequest, sentence: str) -> None:
    with pytest.raises(InvalidDemandError) as refusal:
        resolve(request_)
    assert str(refusal.value) == sentence


def test_a_refusal_names_the_field_as_its_writer_knows_it() -> None:
    names = {"full": "A/vram-full", "floor": "A/vram-floor"}
    with pytest.raises(InvalidDemandError, match=r"lower A/vram-floor or raise A/vram-full\."):
        resolve(replace(TEN, floor=12 * GIB), names=names)


STEPPED = replace(BASE, levels=(level("0.4", 4), level("0.7", 7), level("1", 10)))


@pytest.mark.parametrize(
    ("demand", "quality", "published"),
    [
        (BASE, Fraction(1), (Fraction(1), 10 * GIB)),
        (BASE, Fraction("0.4"), (Fraction("0.4"), 4 * GIB)),
        (BASE, Fraction("0.90419"), (Fraction("0.904"), 9256 * MIB)),
        (replace(BASE, floor=4 * GIB + 1), Fraction("0.4"), (Fraction("0.4"), 4 * GIB + 1)),
        (
            replace(BASE, floor=10 * GIB + 5, full=10 * GIB + 5, minimum=Fraction(1)),
            Fraction(1),
            (Fraction(1), 10 * GIB + 5),
        ),
        (STEPPED, Fraction("0.69999"), (Fraction("0.4"), 4 * GIB)),
        (STEPPED, Fraction("0.7"), (Fraction("0.7"), 7 * GIB)),
        (STEPPED, Fraction("0.95"), (Fraction("0.7"), 7 * GIB)),
        (STEPPED, Fraction(1), (Fraction(1), 10 * GIB)),
    ],
)
def test_what_is_published_of_a_quality(demand: Demand, quality: Fraction, published: tuple[Fraction, int]) -> None:
    assert demand.published(quality) == published


def test_memory_between_the_ends_is_linear_and_exact() -> None:
    assert BASE.memory(Fraction("0.7")) == 7 * GIB
    assert replace(BASE, full=10, floor=4).memory(Fraction(2, 3)) == 4 + Fraction(6) * Fraction(4, 15) / Fraction("0.6")


def test_qualities_are_written_with_three_decimals() -> None:
    assert [format_quality(Fraction(q)) for q in ("0.904", "1", "0.4")] == ["0.904", "1.000", "0.400"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"floor": 11 * GIB}, f"0 <= floor <= full must hold, they are {11 * GIB} and {10 * GIB} bytes."),
        ({"floor": -1}, f"0 <= floor <= full must hold, they are -1 and {10 * GIB} bytes."),
        (
            {"minimum": Fraction("0.9"), "maximum": HALF},
            "0 <= minimum <= maximum <= 1 must hold, they are 9/10 and 1/2.",
        ),
        ({"maximum": Fraction(2)}, "0 <= minimum <= maximum <= 1 must hold, they are 2/5 and 2."),
        ({"minimum": Fraction(1, 3)}, "minimum must be a whole number of thousandths, it is 1/3."),
        ({"maximum": Fraction(2, 3)}, "maximum must be a whole number of thousandths, it is 2/3."),
    ],
)
def test_a_demand_holds_nothing_that_cannot_be(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidDemandError) as caught:
        replace(BASE, **change)
    assert str(caught.value) == sentence
