import math
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from arbiter.demand import Demand, InvalidDemandError, Level
from arbiter.detection import DetectionMethod, GpuDetectionResult, GpuInfo, GpuVendor
from arbiter.local.arbiter import Arbiter
from arbiter.local.config import ArbiterConfig
from arbiter.local.request import AllocationRequest, demand_of
from arbiter.policy import Policy
from arbiter.units import GIB, MIB
from arbiter.workload import PolicyMode, Priority, WorkloadType

LLM = WorkloadType.LLM_INFERENCE


def test_defaults_are_the_references() -> None:
    assert ArbiterConfig() == ArbiterConfig(
        vram_budget=20 * GIB,
        ram_budget=64 * GIB,
        llm_min_quality=0.4,
        diffusion_min_quality=0.3,
        adaptive=True,
        policy=PolicyMode.ADAPTIVE,
        pressure_threshold=0.85,
        allocation_timeout=30.0,
    )


def test_for_vram_gb_changes_the_budget_alone() -> None:
    assert ArbiterConfig.for_vram_gb(24) == replace(ArbiterConfig(), vram_budget=24 * GIB)
    assert ArbiterConfig.for_vram_gb(11.5).vram_budget == 11 * GIB + 512 * MIB


@pytest.mark.parametrize(
    ("config", "least", "policy"),
    [
        (ArbiterConfig.llm_first(), (0.6, 0.25), PolicyMode.LLM_FIRST),
        (ArbiterConfig.diffusion_first(), (0.35, 0.5), PolicyMode.DIFFUSION_FIRST),
        (ArbiterConfig.balanced(), (0.4, 0.35), PolicyMode.BALANCED),
    ],
)
def test_presets_are_the_references(config: ArbiterConfig, least: tuple[float, float], policy: PolicyMode) -> None:
    assert (config.llm_min_quality, config.diffusion_min_quality) == least
    assert (config.policy, config.vram_budget) == (policy, 20 * GIB)


def detected(*sizes: int) -> GpuDetectionResult:
    gpus = (
        GpuInfo(device_id=number, vendor=GpuVendor.NVIDIA, name="a GPU", vram_total=size * GIB)
        for number, size in enumerate(sizes)
    )
    return GpuDetectionResult(method=DetectionMethod.NVML if sizes else DetectionMethod.NONE, gpus=tuple(gpus))


@pytest.mark.parametrize(
    ("found", "vram", "ram"),
    [
        pytest.param(detected(20), 18 * GIB, 80 * GIB, id="90 % of the GPU and four times as much RAM"),
        pytest.param(detected(10, 20), 18 * GIB, 80 * GIB, id="of several GPUs the largest, never their sum"),
        pytest.param(detected(), 8 * GIB * 9 // 10, 32 * GIB, id="as of 8 GiB where there is none"),
    ],
)
def test_budgets_from_detection(found: GpuDetectionResult, vram: int, ram: int) -> None:
    config = ArbiterConfig.from_detection(found)
    assert config == replace(ArbiterConfig(), vram_budget=vram, ram_budget=ram)


def test_auto_detect_answers_on_every_machine() -> None:
    assert ArbiterConfig.auto_detect().vram_budget > 0


def test_qualities_are_clamped_and_negative_budgets_refused() -> None:
    config = ArbiterConfig(llm_min_quality=1.5, diffusion_min_quality=-1, pressure_threshold=2)
    assert (config.llm_min_quality, config.diffusion_min_quality, config.pressure_threshold) == (1, 0, 1)
    with pytest.raises(ValueError, match="vram_budget should be a whole number of bytes"):
        ArbiterConfig(vram_budget=-1)


def test_the_policy_in_force_keeps_nobody_still_for_a_start() -> None:
    config = ArbiterConfig(policy=PolicyMode.BALANCED, shrink_grace=5, restore_interval=3)
    assert config.quality_policy == Policy(
        mode=PolicyMode.BALANCED,
        pressure_threshold=Fraction("0.85"),
        shrink_grace=5,
        start_window=0,
        restore_interval=3,
    )


def asked(**changes: Any) -> AllocationRequest:
    return replace(AllocationRequest(workload_type=LLM, memory_required=10 * GIB), **changes)


def demand(*, floor: int, minimum: str, levels: tuple[Level, ...] = ()) -> Demand:
    return Demand(
        workload_type=LLM,
        priority=Priority.NORMAL,
        full=10 * GIB,
        floor=floor,
        maximum=Fraction(1),
        minimum=Fraction(minimum),
        levels=levels,
    )


def level(quality: str, size: int) -> Level:
    return Level(quality=Fraction(quality), vram=size * GIB)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(asked(), demand(floor=10 * GIB, minimum="0.4"), id="without a minimum its bytes are rigid"),
        pytest.param(
            asked(minimum_quality=0.7), demand(floor=10 * GIB, minimum="0.7"), id="a quality alone frees no bytes"
        ),
        pytest.param(asked(minimum_memory=6 * GIB), demand(floor=6 * GIB, minimum="0.6"), id="quality follows bytes"),
        pytest.param(
            asked(minimum_memory=2 * GIB), demand(floor=2 * GIB, minimum="0.4"), id="but not below the type's least"
        ),
        pytest.param(
            asked(minimum_memory=6 * GIB, minimum_quality=0.5), demand(floor=6 * GIB, minimum="0.5"), id="both as given"
        ),
        pytest.param(
            asked(levels=((0.7, 7 * GIB), (0.5, 4 * GIB))),
            demand(floor=4 * GIB, minimum="0.5", levels=(level("0.5", 4), level("0.7", 7), level("1", 10))),
            id="levels go from the lowest to all at full quality, in whatever order they come",
        ),
    ],
)
def test_what_a_request_demands(request_: AllocationRequest, expected: Demand) -> None:
    assert demand_of(request_, ArbiterConfig()) == expected


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (asked(memory_required=0), "memory_required must be above 0, it is 0."),
        (
            asked(minimum_memory=11 * GIB),
            "floor 11Gi is larger than full 10Gi; lower minimum_memory or raise memory_re",
        ),
        (
            asked(minimum_quality=0.3),
            "minimum_quality 0.300 is below 0.400, the least quality of LlmInference; raise it",
        ),
        (asked(minimum_quality=1.5), "minimum_quality must be above 0 and at most 1, it is 1.5."),
        (asked(levels=((0.7, 12 * GIB),)), "floor 12Gi is larger than full 10Gi; lower the least level's size or"),
        (asked(levels=((1.5, 2 * GIB),)), "the least level's quality must be above 0 and at most 1, it is 1.5."),
        (asked(levels=((1.0, 10 * GIB),)), "levels need a floor below full 10Gi; write a lower the least level's size"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_a_sentence(request_: AllocationRequest, sentence: str) -> None:
    with pytest.raises(InvalidDemandError, match=sentence.replace("(", r"\(")):
        demand_of(request_, ArbiterConfig())


def test_a_policys_least_quality_is_the_default_and_the_bound() -> None:
    assert demand_of(asked(), ArbiterConfig.llm_first()).minimum == Fraction("0.6")
    with pytest.raises(InvalidDemandError):
        demand_of(asked(minimum_quality=0.5), ArbiterConfig.llm_first())


def test_a_requests_own_defaults() -> None:
    request = AllocationRequest(workload_type=WorkloadType.VIDEO_GENERATION, memory_required=GIB)
    config = ArbiterConfig()
    assert (request.priority, request.effective_timeout(config)) == (Priority.NORMAL, 120.0)
    assert replace(request, timeout=5).effective_timeout(config) == 5
    assert replace(request, no_wait=True).effective_timeout(config) is None
    assert request.effective_timeout(ArbiterConfig(allocation_timeout=15.0)) == 60.0


def test_the_least_quality_of_a_request_is_the_one_that_an_arbiter_refuses_to_go_below() -> None:
    request, config = AllocationRequest(workload_type=WorkloadType.VIDEO_GENERATION), ArbiterConfig()
    assert request.effective_minimum_quality(config) == float(demand_of(request, config).minimum) == 0.3
    assert replace(request, minimum_quality=0.6).effective_minimum_quality(config) == 0.6


def test_a_timeout_is_not_negative() -> None:
    with pytest.raises(ValueError, match="timeout should be 0 seconds or more, not -1"):
        asked(timeout=-1)


ASKED_WRONGLY: dict[str, tuple[dict[str, Any], str]] = {
    "parts of a byte": (
        {"memory_required": 10.5 * GIB},
        "memory_required should be a whole number of bytes, such as 8 * GIB, not 11274289152.0.",
    ),
    "a size in words": (
        {"memory_required": "8GiB"},
        "memory_required should be a whole number of bytes, such as 8 * GIB, not '8GiB'.",
    ),
    "a truth for a size": (
        {"minimum_memory": True},
        "minimum_memory should be a whole number of bytes, such as 8 * GIB, not True.",
    ),
    "a time in words": ({"timeout": "1"}, "timeout should be 0 seconds or more, not '1'."),
    "a time that is no number": ({"timeout": math.nan}, "timeout should be 0 seconds or more, not nan."),
    "a quality in words": ({"minimum_quality": "x"}, "minimum_quality should be a number, not 'x'."),
    "a quality that is no number": ({"minimum_quality": math.nan}, "minimum_quality should be a number, not nan."),
    "a level without bytes": (
        {"levels": [0.5]},
        "levels should be pairs of quality and bytes, such as (0.5, 3 * GIB), not 0.5.",
    ),
    "a level of half a byte": (
        {"levels": [(0.5, 0.5)]},
        "the size of a level should be a whole number of bytes, such as 8 * GIB, not 0.5.",
    ),
    "a word for a truth": ({"no_wait": "false"}, "no_wait should be True or False, not 'false'."),
    "levels that are no list": (
        {"levels": 5},
        "levels should be pairs of quality and bytes, such as [(0.5, 3 * GIB)], not 5.",
    ),
    "no such type": (
        {"workload_type": "Llm"},
        '"Llm" is no WorkloadType; write one of LlmInference, ImageGeneration, VideoGeneration.',
    ),
}


@pytest.mark.parametrize(("arguments", "sentence"), ASKED_WRONGLY.values(), ids=ASKED_WRONGLY.keys())
def test_what_nobody_could_have_is_refused_before_it_is_asked_for(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        AllocationRequest(**{"workload_type": LLM, **arguments})


def test_a_request_takes_names_and_lists_as_people_write_them() -> None:
    written = AllocationRequest("LlmInference", "UserFacing", levels=[(0.5, GIB)])
    assert written == AllocationRequest(workload_type=LLM, priority=Priority.HIGH, levels=((0.5, GIB),))


def test_a_time_that_no_float_can_hold_is_endless() -> None:
    assert AllocationRequest(LLM, timeout=10**400).timeout == math.inf


CONFIGURED_WRONGLY: dict[str, tuple[dict[str, Any], str]] = {
    "parts of a byte": (
        {"vram_budget": 0.5},
        "vram_budget should be a whole number of bytes, such as 8 * GIB, not 0.5.",
    ),
    "a time in words": ({"shrink_grace": "30s"}, "shrink_grace should be 0 seconds or more, not '30s'."),
    "grows that never come again": ({"restore_interval": math.inf}, "restore_interval should be a number, not inf."),
    "a quality in words": ({"llm_min_quality": "x"}, "llm_min_quality should be a number from 0 to 1, not 'x'."),
    "a word for a truth": ({"adaptive": "false"}, "adaptive should be True or False, not 'false'."),
    "no such policy": (
        {"policy": "Fair"},
        '"Fair" is no PolicyMode; write one of Adaptive, LlmFirst, DiffusionFirst, Balanced, Fixed.',
    ),
}


@pytest.mark.parametrize(("arguments", "sentence"), CONFIGURED_WRONGLY.values(), ids=CONFIGURED_WRONGLY.keys())
def test_a_configuration_that_nobody_could_mean_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ArbiterConfig(**arguments)


def test_a_budget_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^gigabytes should be a number, not nan\.$"):
        ArbiterConfig.for_vram_gb(math.nan)


@pytest.mark.parametrize("mode", PolicyMode)
def test_the_name_of_a_policy_means_that_policy(mode: PolicyMode) -> None:
    name: Any = mode.value
    assert ArbiterConfig(policy=name) == ArbiterConfig(policy=mode)
    assert ArbiterConfig(policy=name).policy is mode


@pytest.mark.parametrize("config", [12 * GIB, {}])
def test_an_arbiter_is_made_of_a_configuration(config: Any) -> None:
    with pytest.raises(TypeError, match=r"config should be of class ArbiterConfig, such as ArbiterConfig.for_vram_gb"):
        Arbiter(config)


def test_an_arbiter_is_asked_with_a_request() -> None:
    wrong: Any = "LlmInference"
    with Arbiter() as arbiter, pytest.raises(TypeError, match="request should be of class AllocationRequest"):
        arbiter.allocate(wrong)


def test_what_is_no_allocation_cannot_be_released() -> None:
    name: Any = "llm-1"
    with Arbiter() as arbiter, pytest.raises(TypeError, match="allocation should be of class Allocation, such as what"):
        arbiter.release_allocation(name)


def test_a_refused_size_leaves_the_arbiter_as_it_was() -> None:
    with Arbiter(ArbiterConfig.for_vram_gb(12)) as arbiter:
        wrong: Any = 10.5 * GIB
        with pytest.raises(ValueError, match="memory_required should be a whole number of bytes"):
            arbiter.request_allocation("LlmInference", "High", wrong)
        with arbiter.request_allocation("LlmInference", "High", 21 * GIB // 2) as chat:
            assert chat.memory == 21 * GIB // 2
