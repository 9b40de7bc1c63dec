"""Figures of the reference coordinator: priorities, types."""

from fractions import Fraction
from itertools import product

import pytest

from arbiter.units import GIB
from arbiter.workload import Priority, WorkloadDefaults, WorkloadType


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
        (WorkloadType.LLM_INFERENCE, ("0.4", 8, 30.0, "llm")),
        (WorkloadType.IMAGE_GENERATION, ("0.3", 6, 60.0, "image")),
        (WorkloadType.VIDEO_GENERATION, ("0.25", 12, 120.0, "video")),
    ],
)
def test_a_type_has_the_reference_defaults(kind: WorkloadType, defaults: tuple[str, int, float, str]) -> None:
    minimum, memory, timeout, short_name = defaults
    assert kind.defaults == WorkloadDefaults(
        minimum_quality=Fraction(minimum), typical_memory=memory * GIB, timeout=timeout, short_name=short_name
    )


def test_only_llm_inference_is_the_llm_system() -> None:
    assert [kind for kind in WorkloadType if kind.is_llm] == [WorkloadType.LLM_INFERENCE]
