"""The reference coordinator's scenarios and tables, as one Arbiter shows them."""

import re
import threading
from dataclasses import replace
from fractions import Fraction

import pytest

from arbiter.local.allocation import Allocation
from arbiter.local.arbiter import Arbiter
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import InsufficientMemory
from arbiter.units import GIB
from arbiter.workload import Priority, WorkloadType
from tests.unit.local.desk import IMAGE, LLM, VIDEO, Desk


def test_an_llm_and_an_image_on_24_gib_both_run() -> None:
    with Arbiter(ArbiterConfig.for_vram_gb(24)) as arbiter:
        llm = arbiter.request_allocation(LLM, "High", 10 * GIB)
        image = arbiter.request_allocation(IMAGE, "Background", 6 * GIB)
        assert llm.quality_target >= image.quality_target
        state = arbiter.state()
        assert (state.active_llm, state.active_diffusion, state.vram_used) == (1, 1, 16 * GIB)


def test_on_16_gib_the_second_gets_no_more_than_the_first() -> None:
    desk = Desk(16).ask("llm", 8, priority="High").ask("image", 6, kind=IMAGE)
    assert (desk.quality("llm"), desk.quality("image")) == (1.0, 0.916)


def test_after_a_release_a_new_allocation_gets_more_and_those_there_do_too() -> None:
    desk = Desk(16).ask("llm", 12, priority="High").ask("image", 3, kind=IMAGE)
    assert (desk.quality("llm"), desk.quality("image")) == (0.779, 0.708)
    assert desk.release("llm").ask("again", 3, kind=IMAGE).quality("again") == 1.0
    assert desk.quality("image") == 1.0


def test_100_gib_on_8_are_refused_and_nothing_is_reserved() -> None:
    with Arbiter(ArbiterConfig.for_vram_gb(8)) as arbiter:
        with pytest.raises(InsufficientMemory, match="102400 MiB were requested and 8192 MiB are available"):
            arbiter.request_allocation(LLM, "Normal", 100 * GIB)
        assert arbiter.state().vram_used == 0
        assert arbiter.stats().failed_allocations == 1


def test_four_threads_at_once_all_succeed() -> None:
    with Arbiter(ArbiterConfig.for_vram_gb(24)) as arbiter:
        held: list[Allocation] = []
        threads = [
            threading.Thread(target=lambda: held.append(arbiter.request_allocation(LLM, "Normal", GIB)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (arbiter.state().active_llm, len({allocation.id for allocation in held})) == (4, 4)


@pytest.mark.parametrize(
    ("kind", "priority", "used", "quality"),
    [
        (LLM, "Normal", 5, 0.75),
        (LLM, "High", 5, 0.825),
        (LLM, "Critical", 2, 1.0),
        (LLM, "Critical", 5, 0.9),
        (LLM, "Background", 5, 0.45),
        (LLM, "Background", 9, 0.4),
        (IMAGE, "Low", 5, 0.6),
        (IMAGE, "Background", 10, 0.3),
        (VIDEO, "Background", 10, 0.3),
    ],
)
def test_without_a_threshold_quality_is_the_reference_formula_at_used_over_capacity(
    kind: str, priority: str, used: float, quality: float
) -> None:
    desk = Desk(10, ArbiterConfig(pressure_threshold=0)).ask("one", used, kind=kind, priority=priority)
    assert desk.quality("one") == quality
    assert desk.allocator.quality_for(WorkloadType(kind)) == float(1 - Fraction(int(used), 20))


@pytest.mark.parametrize(
    ("config", "llm", "image"),
    [
        (ArbiterConfig(), 0.605, 0.55),
        (ArbiterConfig.llm_first(), 0.7, 0.495),
        (ArbiterConfig.diffusion_first(), 0.544, 0.7),
        (ArbiterConfig.balanced(), 0.772, 0.747),
        (ArbiterConfig(adaptive=False), 1.0, 1.0),
    ],
)
def test_policies_favour_as_in_the_reference(config: ArbiterConfig, llm: float, image: float) -> None:
    reference = replace(config, pressure_threshold=0)
    desk = Desk(10, reference).ask("llm", 5, priority="High").ask("image", 4, kind=IMAGE)
    assert (desk.quality("llm"), desk.quality("image")) == (llm, image)


def test_nobody_gives_way_below_the_threshold_and_everybody_above() -> None:
    desk = Desk(20).ask("llm", 17)
    assert desk.quality("llm") == 1.0
    assert desk.ask("image", 0.5, kind=IMAGE).quality("llm") == 0.916


def test_when_the_last_of_one_system_leaves_the_other_is_back_at_full_quality() -> None:
    desk = Desk(16).ask("llm", 8).ask("image", 7, kind=IMAGE)
    assert desk.quality("image") < 1
    assert desk.release("llm").quality("image") == 1.0
    assert desk.ask("llm again", 8).quality("image") < 1
    assert desk.release("image").quality("llm again") == 1.0


def test_an_allocation_says_what_it_is() -> None:
    with Arbiter() as arbiter:
        first = arbiter.request_allocation(VIDEO, "UserFacing", 12 * GIB)
        second = arbiter.request_allocation(WorkloadType.LLM_INFERENCE, Priority.LOW, 2 * GIB)
        assert (first.id, first.workload_type, first.priority) == (
            "video-1",
            WorkloadType.VIDEO_GENERATION,
            Priority.HIGH,
        )
        assert (second.id, second.memory, second.quality_target) == ("llm-2", 2 * GIB, 1.0)
        assert first.created_at <= second.created_at
        assert repr(second) == "<Allocation llm-2 Low quality=1.000 memory=2147483648>"


@pytest.mark.parametrize(("kind", "size"), [(LLM, 8), (IMAGE, 6), (VIDEO, 12)])
def test_who_names_no_size_gets_what_is_typical_of_its_type(kind: str, size: int) -> None:
    with Arbiter() as arbiter:
        assert arbiter.request_allocation(kind, "Normal").memory == size * GIB


@pytest.mark.parametrize(
    ("kind", "priority", "sentence"),
    [
        ("Llm", "High", '"Llm" is no WorkloadType; write one of LlmInference, ImageGeneration, VideoGeneration.'),
        (LLM, "Urgent", '"Urgent" is no Priority; write one of Background, Low, Normal, High, Critical.'),
    ],
)
def test_names_that_are_none_are_refused_with_those_that_are(kind: str, priority: str, sentence: str) -> None:
    with Arbiter() as arbiter, pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        arbiter.request_allocation(kind, priority)


def test_releasing_twice_is_harmless_and_told() -> None:
    with Arbiter() as arbiter, Arbiter() as other:
        allocation, foreign = (some.request_allocation(LLM, "Normal", GIB) for some in (arbiter, other))
        assert not arbiter.release_allocation(foreign)
        assert (allocation.release(), allocation.released) == (True, True)
        assert (allocation.release(), arbiter.release_allocation(allocation)) == (False, False)
        assert not allocation.acknowledge()
        assert (arbiter.state().vram_used, other.state().vram_used) == (0, GIB)


def test_recommended_quality_follows_the_price() -> None:
    with Arbiter(ArbiterConfig.for_vram_gb(10)) as arbiter:
        assert arbiter.recommended_quality(LLM) == 1.0
        with arbiter.request_allocation(LLM, "High", int(9.25 * GIB)):
            assert arbiter.recommended_quality(IMAGE) == 0.75
        assert arbiter.recommended_quality(IMAGE) == 1.0
        assert arbiter.uptime > 0
