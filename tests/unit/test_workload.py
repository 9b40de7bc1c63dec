"""Figures of the reference coordinator: priorities, types, pressure."""

import math
from fractions import Fraction
from itertools import product

import pytest

from arbiter.units import GIB
from arbiter.workload import MemoryPressure, Priority, WorkloadDefaults, WorkloadType


@pytest.mark.parametrize(
    ("priority", "level", "quality", "timeout"),
    [
        (Priority.BACKGROUND, 0, "0.6", 0.5),
        (Priority.LOW, 1, "0.8", 0.75),
        (Priority.NORMAL, 2, "1.0", 1.0),
        (Priority.HIGH, 3, "1.1", 1.5),
        (Priority.CRITICAL, 4, "1.2", 2.0),
    ],
)
def test_a_priority_has_the_reference_multipliers(priority: Priority, level: int, quality: str, timeout: float) -> None:
    assert (priority.level, priority.quality_multiplier, priority.timeout_multiplier) == (
        level,
        Fraction(quality),
        timeout,
    )


def test_user_facing_is_high() -> None:
    assert Priority("UserFacing") is Priority.HIGH
    assert Priority["USER_FACING"] is Priority.HIGH
    assert len(Priority) == 5


def test_an_unknown_priority_is_an_error() -> None:
    with pytest.raises(ValueError, match="Urgent"):
        Priority("Urgent")


def test_priorities_are_ordered_by_level() -> None:
    assert sorted(Priority) == list(Priority)
    assert max(Priority) is Priority.CRITICAL


def test_preemption_needs_a_gap_of_two_levels() -> None:
    preempting = {(a.value, b.value) for a, b in product(Priority, repeat=2) if a.may_preempt(b)}
    assert preempting == {
        ("Normal", "Background"),
        ("High", "Background"),
        ("High", "Low"),
        ("Critical", "Background"),
        ("Critical", "Low"),
        ("Critical", "Normal"),
    }


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        (WorkloadType.LLM_INFERENCE, ("0.4", 8, 30.0, True, "llm")),
        (WorkloadType.IMAGE_GENERATION, ("0.3", 6, 60.0, False, "image")),
        (WorkloadType.VIDEO_GENERATION, ("0.25", 12, 120.0, True, "video")),
    ],
)
def test_a_type_has_the_reference_defaults(kind: WorkloadType, defaults: tuple[str, int, float, bool, str]) -> None:
    minimum, memory, timeout, streams, short_name = defaults
    assert kind.defaults == WorkloadDefaults(
        minimum_quality=Fraction(minimum),
        target_quality=Fraction(1),
        typical_memory=memory * GIB,
        timeout=timeout,
        streams=streams,
        short_name=short_name,
    )


def test_only_llm_inference_is_the_llm_system() -> None:
    assert [kind for kind in WorkloadType if kind.is_llm] == [WorkloadType.LLM_INFERENCE]


@pytest.mark.parametrize(
    ("kind", "priority", "seconds"),
    [
        (WorkloadType.LLM_INFERENCE, Priority.BACKGROUND, 15.0),
        (WorkloadType.LLM_INFERENCE, Priority.HIGH, 45.0),
        (WorkloadType.IMAGE_GENERATION, Priority.NORMAL, 60.0),
        (WorkloadType.IMAGE_GENERATION, Priority.LOW, 45.0),
        (WorkloadType.VIDEO_GENERATION, Priority.CRITICAL, 240.0),
    ],
)
def test_who_matters_more_waits_longer(kind: WorkloadType, priority: Priority, seconds: float) -> None:
    assert kind.timeout(priority) == seconds


@pytest.mark.parametrize(
    ("level", "begins", "factor", "blocks_new_work", "pauses_background"),
    [
        (MemoryPressure.LOW, 0.0, "1", False, False),
        (MemoryPressure.MODERATE, 0.5, "0.9", False, False),
        (MemoryPressure.HIGH, 0.75, "0.7", False, True),
        (MemoryPressure.CRITICAL, 0.9, "0.5", True, True),
    ],
)
def test_a_level_of_pressure_has_the_reference_figures(
    level: MemoryPressure, begins: float, factor: str, blocks_new_work: bool, pauses_background: bool
) -> None:
    assert MemoryPressure.at(begins) is level
    assert MemoryPressure.at(math.nextafter(begins, -1)) is not level or level is MemoryPressure.LOW
    assert (level.quality_factor, level.blocks_new_work, level.pauses_background) == (
        Fraction(factor),
        blocks_new_work,
        pauses_background,
    )


@pytest.mark.parametrize("utilisation", [1.0, 1.5, math.inf])
def test_a_full_gpu_and_one_beyond_it_are_critical(utilisation: float) -> None:
    assert MemoryPressure.at(utilisation) is MemoryPressure.CRITICAL
