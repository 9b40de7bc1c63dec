"""Quality by figures: allocations, budgets and the calculator's formula, against the reference's tables."""

import math
from itertools import product

import pytest

from arbiter.calculator import QualityAllocation, QualityBudget, QualityCalculator
from arbiter.workload import MemoryPressure, Priority, WorkloadType

LLM, IMAGE, VIDEO = WorkloadType


def test_an_allocation_is_full_quality_down_to_the_llm_minimum_unless_said_otherwise() -> None:
    assert QualityAllocation() == QualityAllocation(1.0, 0.4, adjustable=True)


CLAMPS = {
    "within bounds": ((0.8, 0.3), (0.8, 0.3)),
    "a target above 1": ((1.7, 0.3), (1.0, 0.3)),
    "a target below 0": ((-0.2, 0.3), (0.0, 0.0)),
    "a minimum above the target": ((0.5, 0.9), (0.5, 0.5)),
    "a minimum below 0": ((0.5, -1.0), (0.5, 0.0)),
    "both without bounds": ((math.inf, -math.inf), (1.0, 0.0)),
}


@pytest.mark.parametrize(("given", "kept"), CLAMPS.values(), ids=CLAMPS.keys())
def test_an_allocation_clamps_what_it_is_given(given: tuple[float, float], kept: tuple[float, float]) -> None:
    allocation = QualityAllocation(*given)
    assert (allocation.target, allocation.minimum) == kept
    assert allocation.viable


@pytest.mark.parametrize(("name", "given"), [("target", (math.nan, 0.4)), ("minimum", (1.0, math.nan))])
def test_what_is_not_a_number_is_refused_by_name(name: str, given: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=rf"^{name} should be a number from 0 to 1, not nan\.$"):
        QualityAllocation(*given)


REDUCTIONS = {
    "the target times the factor": (QualityAllocation(1.0, 0.4), 0.7, 0.7),
    "as in decimals, not as in binary": (QualityAllocation(0.7, 0.1), 0.9, 0.63),
    "never below the minimum": (QualityAllocation(1.0, 0.4), 0.3, 0.4),
    "never up": (QualityAllocation(0.5, 0.4), 1.5, 0.5),
    "by all of it": (QualityAllocation(0.5, 0.0), -1.0, 0.0),
    "not a fixed one": (QualityAllocation(1.0, 0.4, adjustable=False), 0.5, 1.0),
}


@pytest.mark.parametrize(("allocation", "factor", "target"), REDUCTIONS.values(), ids=REDUCTIONS.keys())
def test_reducing(allocation: QualityAllocation, factor: float, target: float) -> None:
    reduced = allocation.reduce(factor)
    assert reduced == QualityAllocation(target, allocation.minimum, adjustable=allocation.adjustable)
    assert reduced.viable


BUDGETS = {
    "default": (QualityBudget(), [(1.0, 0.4), (1.0, 0.3), (1.0, 0.25)]),
    "llm first": (QualityBudget.llm_first(), [(1.0, 0.6), (0.8, 0.3), (0.7, 0.25)]),
    "diffusion first": (QualityBudget.diffusion_first(), [(0.8, 0.4), (1.0, 0.5), (1.0, 0.4)]),
    "balanced": (QualityBudget.balanced(), [(0.85, 0.4), (0.85, 0.3), (0.85, 0.25)]),
}


@pytest.mark.parametrize(("budget", "figures"), BUDGETS.values(), ids=BUDGETS.keys())
def test_a_budget_has_the_reference_figures(budget: QualityBudget, figures: list[tuple[float, float]]) -> None:
    assert [budget.of(kind) for kind in WorkloadType] == [QualityAllocation(*each) for each in figures]
    assert (budget.of(LLM), budget.of(IMAGE), budget.of(VIDEO)) == (budget.llm, budget.image, budget.video)


@pytest.mark.parametrize(
    ("level", "targets"),
    [
        (MemoryPressure.LOW, (1.0, 0.8, 0.7)),
        (MemoryPressure.MODERATE, (0.9, 0.72, 0.63)),
        (MemoryPressure.HIGH, (0.7, 0.56, 0.49)),
        (MemoryPressure.CRITICAL, (0.6, 0.4, 0.35)),
    ],
)
def test_pressure_reduces_every_part_of_a_budget(level: MemoryPressure, targets: tuple[float, ...]) -> None:
    before = QualityBudget.llm_first()
    after = before.apply_pressure(level)
    assert tuple(after.of(kind).target for kind in WorkloadType) == targets
    assert [after.of(kind).minimum for kind in WorkloadType] == [before.of(kind).minimum for kind in WorkloadType]


CALCULATIONS = {
    "without pressure all of it": (QualityCalculator(), LLM, Priority.NORMAL, 0.0, 1.0),
    "half of it goes with the pressure": (QualityCalculator(), LLM, Priority.NORMAL, 1.0, 0.5),
    "as in decimals, not as in binary": (QualityCalculator(), IMAGE, Priority.NORMAL, 0.6, 0.7),
    "times the priority": (QualityCalculator(), IMAGE, Priority.BACKGROUND, 0.5, 0.45),
    "user-facing work gains": (QualityCalculator(), LLM, Priority.USER_FACING, 0.5, 0.825),
    "at most 1": (QualityCalculator(), LLM, Priority.CRITICAL, 0.0, 1.0),
    "at least the LLM minimum": (QualityCalculator(), LLM, Priority.BACKGROUND, 0.9, 0.4),
    "at least the diffusion minimum": (QualityCalculator(), VIDEO, Priority.BACKGROUND, 1.0, 0.3),
    "another LLM minimum": (QualityCalculator(llm_min_quality=0.6), LLM, Priority.LOW, 1.0, 0.6),
    "another diffusion minimum": (QualityCalculator(diffusion_min_quality=0.5), IMAGE, Priority.LOW, 1.0, 0.5),
    "of the budget's target": (QualityCalculator(budget=QualityBudget.llm_first()), VIDEO, Priority.NORMAL, 0.4, 0.56),
    "pressure beyond the capacity is full pressure": (QualityCalculator(), LLM, Priority.NORMAL, 1.8, 0.5),
    "pressure below nothing is none": (QualityCalculator(), LLM, Priority.NORMAL, -0.1, 1.0),
}


@pytest.mark.parametrize(
    ("calculator", "kind", "priority", "pressure", "quality"), CALCULATIONS.values(), ids=CALCULATIONS.keys()
)
def test_the_calculator(
    calculator: QualityCalculator, kind: WorkloadType, priority: Priority, pressure: float, quality: float
) -> None:
    assert calculator.calculate(kind, priority, pressure) == quality


@pytest.mark.parametrize(("kind", "priority"), list(product(WorkloadType, Priority)))
def test_the_calculator_follows_the_formula_everywhere(kind: WorkloadType, priority: Priority) -> None:
    factor = {"Background": 0.6, "Low": 0.8, "Normal": 1.0, "High": 1.1, "Critical": 1.2}[priority.value]
    for step in range(11):
        expected = min(1.0, max(0.4 if kind is LLM else 0.3, (1 - 0.5 * step / 10) * factor))
        assert QualityCalculator().calculate(kind, priority, step / 10) == pytest.approx(expected, abs=1e-12)


def test_a_pressure_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^pressure should be a number from 0 to 1, not nan\.$"):
        QualityCalculator().calculate(LLM, Priority.NORMAL, math.nan)
