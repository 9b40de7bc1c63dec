"""The coordinator's answers under each policy, against the reference's tables and the equilibrium's curves."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import pytest

from arbiter.calculator import QualityAllocation, QualityBudget, QualityCalculator
from arbiter.coordinator import Coordinator, CoordinatorConfig, QualitySuggestion
from arbiter.curves import quality_curve
from arbiter.demand import Demand
from arbiter.policy import Policy
from arbiter.units import GIB
from arbiter.workload import PolicyMode, Priority, WorkloadType

LLM, IMAGE, VIDEO = WorkloadType

PRESETS = {
    "default": (CoordinatorConfig(), (0.4, 0.3, PolicyMode.ADAPTIVE)),
    "llm first": (CoordinatorConfig.llm_first(), (0.6, 0.25, PolicyMode.LLM_FIRST)),
    "diffusion first": (CoordinatorConfig.diffusion_first(), (0.35, 0.5, PolicyMode.DIFFUSION_FIRST)),
    "balanced": (CoordinatorConfig.balanced(), (0.4, 0.35, PolicyMode.BALANCED)),
}


@pytest.mark.parametrize(("config", "figures"), PRESETS.values(), ids=PRESETS.keys())
def test_a_preset_has_the_reference_figures(
    config: CoordinatorConfig, figures: tuple[float, float, PolicyMode]
) -> None:
    llm, diffusion, policy = figures
    assert config == CoordinatorConfig(
        llm_min_quality=llm, diffusion_min_quality=diffusion, adaptive=True, policy=policy
    )


def test_minimums_are_clamped_and_must_be_numbers() -> None:
    config = CoordinatorConfig(llm_min_quality=1.5, diffusion_min_quality=-0.5)
    assert (config.llm_min_quality, config.diffusion_min_quality) == (1.0, 0.0)
    with pytest.raises(ValueError, match=r"^llm_min_quality should be a number from 0 to 1, not nan\.$"):
        CoordinatorConfig(llm_min_quality=math.nan)


def favouring(policy: PolicyMode, *, adaptive: bool = True) -> CoordinatorConfig:
    return CoordinatorConfig(policy=policy, adaptive=adaptive)


QUALITIES = {
    "adaptive: the calculator's": (favouring(PolicyMode.ADAPTIVE), 0.5, (0.75, 0.75, 0.75)),
    "LLM first: at least 0.7 for the LLM": (favouring(PolicyMode.LLM_FIRST), 1.0, (0.7, 0.45, 0.45)),
    "LLM first: the calculator's where it is more": (favouring(PolicyMode.LLM_FIRST), 0.5, (0.75, 0.675, 0.675)),
    "diffusion first: at least 0.7 for it": (favouring(PolicyMode.DIFFUSION_FIRST), 1.0, (0.45, 0.7, 0.7)),
    "balanced: half and a part of the rest": (favouring(PolicyMode.BALANCED), 1.0, (0.725, 0.725, 0.725)),
    "balanced: not even without pressure full": (favouring(PolicyMode.BALANCED), 0.0, (0.95, 0.95, 0.95)),
    "fixed: full": (favouring(PolicyMode.FIXED), 1.0, (1.0, 1.0, 1.0)),
    "not adaptive: full": (favouring(PolicyMode.LLM_FIRST, adaptive=False), 1.0, (1.0, 1.0, 1.0)),
    "pressure beyond the capacity is full pressure": (favouring(PolicyMode.ADAPTIVE), 7.0, (0.5, 0.5, 0.5)),
}


@pytest.mark.parametrize(("config", "pressure", "qualities"), QUALITIES.values(), ids=QUALITIES.keys())
def test_quality_of_normal_work(
    config: CoordinatorConfig, pressure: float, qualities: tuple[float, float, float]
) -> None:
    coordinator = Coordinator(config)
    assert tuple(coordinator.calculate_quality(kind, Priority.NORMAL, pressure) for kind in WorkloadType) == qualities


def test_the_minimum_holds_after_the_policy_too() -> None:
    images = Coordinator(CoordinatorConfig(diffusion_min_quality=0.3, policy=PolicyMode.LLM_FIRST))
    assert images.calculate_quality(IMAGE, Priority.BACKGROUND, 1.0) == 0.3
    strict = Coordinator(CoordinatorConfig(llm_min_quality=0.9, policy=PolicyMode.LLM_FIRST))
    assert strict.calculate_quality(LLM, Priority.LOW, 1.0) == 0.9


EVERYBODY = list(product(PolicyMode, WorkloadType, Priority))


@pytest.mark.parametrize(("policy", "kind", "priority"), EVERYBODY, ids=lambda value: value.value)
def test_the_equilibrium_asks_the_same_formula(policy: PolicyMode, kind: WorkloadType, priority: Priority) -> None:
    """With a GPU's price in the place of the pressure, and the member's minimum in the place of the type's."""
    demand = Demand(
        workload_type=kind,
        priority=priority,
        full=10 * GIB,
        floor=3 * GIB,
        maximum=Fraction(1),
        minimum=Fraction("0.3"),
    )
    curve = quality_curve(demand, Policy(mode=policy))
    coordinator = Coordinator(CoordinatorConfig(llm_min_quality=0.3, diffusion_min_quality=0.3, policy=policy))
    tenths = range(11)
    answers = [coordinator.calculate_quality(kind, priority, tenth / 10) for tenth in tenths]
    assert answers == [float(curve(Fraction(tenth, 10))) for tenth in tenths]


SUGGESTIONS = {
    "nobody is there": (CoordinatorConfig(), (0, 0, 0.9), (1.0, 1.0)),
    "only language models": (CoordinatorConfig(), (3, 0, 0.9), (1.0, 1.0)),
    "only diffusion": (CoordinatorConfig(), (0, 2, 0.9), (1.0, 1.0)),
    "both, without pressure": (CoordinatorConfig(), (1, 1, 0.0), (0.8, 0.75)),
    "both, under pressure": (CoordinatorConfig(), (1, 1, 0.5), (0.68, 0.6375)),
    "favouring nobody": (favouring(PolicyMode.BALANCED), (1, 1, 1.0), (0.56, 0.525)),
    "favouring the LLM": (favouring(PolicyMode.LLM_FIRST), (1, 1, 1.0), (0.63, 0.49)),
    "favouring diffusion": (favouring(PolicyMode.DIFFUSION_FIRST), (1, 1, 1.0), (0.49, 0.63)),
    "sized once": (favouring(PolicyMode.FIXED), (1, 1, 1.0), (1.0, 1.0)),
    "not adaptive": (favouring(PolicyMode.BALANCED, adaptive=False), (1, 1, 1.0), (1.0, 1.0)),
    "the LLM's minimum": (CoordinatorConfig(llm_min_quality=0.9), (1, 1, 1.0), (0.9, 0.525)),
    "diffusion's minimum": (CoordinatorConfig(diffusion_min_quality=0.6), (1, 1, 1.0), (0.56, 0.6)),
}


@pytest.mark.parametrize(("config", "load", "suggested"), SUGGESTIONS.values(), ids=SUGGESTIONS.keys())
def test_suggested_qualities(
    config: CoordinatorConfig, load: tuple[int, int, float], suggested: tuple[float, float]
) -> None:
    assert Coordinator(config).suggest_rebalance(*load) == QualitySuggestion(*suggested)


@pytest.mark.parametrize("mode", PolicyMode)
def test_the_name_of_a_policy_means_that_policy(mode: PolicyMode) -> None:
    name: Any = mode.value
    assert CoordinatorConfig(policy=name).policy is mode


def test_a_name_that_no_policy_has_is_refused() -> None:
    name: Any = "Fair"
    with pytest.raises(ValueError, match=r'^"Fair" is no PolicyMode; write one of Adaptive, LlmFirst,'):
        CoordinatorConfig(policy=name)


@pytest.mark.parametrize(
    ("make", "field"),
    [(CoordinatorConfig, "adaptive"), (QualityAllocation, "adjustable")],
    ids=["adaptive", "adjustable"],
)
def test_a_word_is_no_truth(make: Callable[..., object], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} should be True or False, not 'no'"):
        make(**{field: "no"})


def test_types_and_priorities_may_be_named() -> None:
    by_name = Coordinator().calculate_quality("LlmInference", "UserFacing", 0.5)
    assert by_name == Coordinator().calculate_quality(WorkloadType.LLM_INFERENCE, Priority.HIGH, 0.5)
    assert QualityCalculator().calculate("ImageGeneration", "Low", 0.5) == 0.6
    assert QualityBudget().apply_pressure("Moderate").of("LlmInference").target == 0.9
    with pytest.raises(ValueError, match=r'^"Llm" is no WorkloadType; write one of'):
        Coordinator().calculate_quality("Llm", "High", 0.5)
