"""What pods' annotations say is read strictly: a process must not stumble over a text that is none of Arbiter's."""

import json
from collections.abc import Callable
from fractions import Fraction

import pytest

from arbiter.demand import Demand, Level
from arbiter.units import GIB
from arbiter.workload import MemoryPressure, Priority, WorkloadType
from arbiter_kube.api import annotations as a
from arbiter_kube.api.annotations import FrozenDemand, InvalidAnnotationError, TargetGrant

DEMAND = Demand(
    workload_type=WorkloadType.LLM_INFERENCE,
    priority=Priority.HIGH,
    full=10 * GIB,
    floor=4 * GIB,
    maximum=Fraction(1),
    minimum=Fraction(2, 5),
    levels=(
        Level(quality=Fraction(2, 5), vram=4 * GIB),
        Level(quality=Fraction(7, 10), vram=7 * GIB),
        Level(quality=Fraction(1), vram=10 * GIB),
    ),
    gpu_count=2,
)
FROZEN = FrozenDemand(
    demand=DEMAND, container="main", allocation="chat", allocation_uid="uid-chat", generation=3, asked=8
)
GRANT = TargetGrant(quality="0.904", vram=9 * GIB, revision=1, pressure=MemoryPressure.HIGH, mode="Adaptive")

LEVELS = json.loads(a.encode_demand(FROZEN))["levels"]


def test_a_demand_is_read_as_it_was_written() -> None:
    assert a.decode_demand(a.encode_demand(FROZEN)) == FROZEN


def test_a_grant_is_read_as_it_was_written() -> None:
    assert a.decode_grant(a.encode_grant(GRANT)) == GRANT


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"maximum": "1/0"}, id="a quality divided by zero"),
        pytest.param({"maximum": "1e999999999"}, id="a quality that takes minutes to read"),
        pytest.param({"maximum": "1.001"}, id="a quality above 1"),
        pytest.param({"minimum": "0.000"}, id="no quality at all"),
        pytest.param({"minimum": "1.000", "maximum": "0.500"}, id="a minimum above the maximum"),
        pytest.param({"minimum": "1.000", "levels": []}, id="two sizes at one quality"),
        pytest.param({"floor": 11 * GIB}, id="a floor above full"),
        pytest.param({"floor": 0}, id="no floor"),
        pytest.param({"gpuCount": 0}, id="no GPU"),
        pytest.param({"shrinkGrace": -1}, id="a grace before now"),
        pytest.param({"levels": [LEVELS[1], {"quality": "0.800", "vram": 6 * GIB}]}, id="levels that fall"),
        pytest.param({"version": 2}, id="another version"),
    ],
)
def test_a_demand_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    text = json.dumps(json.loads(a.encode_demand(FROZEN)) | changes)

    with pytest.raises(InvalidAnnotationError, match=r"^arbiter\.infernum\.io/demand "):
        a.decode_demand(text)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"quality": "high"}, id="a quality that is no number"),
        pytest.param({"quality": "1/0"}, id="a quality divided by zero"),
        pytest.param({"quality": "1e999999999"}, id="a quality that takes minutes to read"),
        pytest.param({"vram": -1}, id="less than no memory"),
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    text = json.dumps(json.loads(a.encode_grant(GRANT)) | changes)

    with pytest.raises(InvalidAnnotationError, match=r"^arbiter\.infernum\.io/grant "):
        a.decode_grant(text)


@pytest.mark.parametrize("decode", [a.decode_demand, a.decode_grant, a.decode_nomination])
def test_what_is_nested_too_deep_to_be_read_is_refused(decode: Callable[[str], object]) -> None:
    with pytest.raises(InvalidAnnotationError, match="maximum recursion depth exceeded"):
        decode('{"version": 1, "x": ' + "[" * 50_000 + "]" * 50_000 + "}")


def test_a_nomination_without_a_time_zone_is_refused() -> None:
    text = '{"version": 1, "node": "n1", "gpus": ["a"], "until": "2026-01-02T03:04:05"}'

    with pytest.raises(InvalidAnnotationError, match=r"^arbiter\.infernum\.io/nominated "):
        a.decode_nomination(text)
