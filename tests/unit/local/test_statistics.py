"""What an Arbiter counts, and its averages weighted by time (virtual time)."""

from collections.abc import Callable

import pytest

from arbiter.local.statistics import ArbiterStats
from tests.unit.local.desk import IMAGE, VIDEO, Desk

COUNTED: dict[str, tuple[Callable[[], Desk], ArbiterStats]] = {
    "nothing has happened": (lambda: Desk(10).after(60), ArbiterStats()),
    "one was given out": (
        lambda: Desk(10).ask("chat", 4),
        ArbiterStats(total_allocations=1, successful_allocations=1),
    ),
    "one was refused at once": (
        lambda: Desk(10).ask("chat", 40),
        ArbiterStats(total_allocations=1, failed_allocations=1),
    ),
    "one waited in vain": (
        lambda: Desk(10).ask("chat", 8).ask("posters", 8, kind=IMAGE, timeout=5).after(5),
        ArbiterStats(total_allocations=2, successful_allocations=1, failed_allocations=1, average_pressure=0.8),
    ),
    "one gave up": (
        lambda: Desk(10).ask("chat", 8).ask("posters", 8).release("posters"),
        ArbiterStats(total_allocations=2, successful_allocations=1, failed_allocations=1),
    ),
    "one that still waits is neither": (
        lambda: Desk(10).ask("chat", 8).ask("posters", 8),
        ArbiterStats(total_allocations=2, successful_allocations=1),
    ),
    "one was told to leave": (
        lambda: Desk(10).ask("batch", 8, priority="Low").ask("chat", 8, priority="High"),
        ArbiterStats(total_allocations=2, successful_allocations=1, preemptions=1),
    ),
    "quality fell once for each who was told so, and rose uncounted": (
        lambda: (
            Desk(10).ask("chat", 8).ask("video", 0.5, kind=VIDEO).ask("posters", 0.5, kind=IMAGE).release("posters")
        ),
        ArbiterStats(total_allocations=3, successful_allocations=3, quality_reductions=2),
    ),
    "pressure for as long as it lasted: 10 s at 0.8, 30 s at 0.4": (
        lambda: Desk(10).ask("chat", 8).after(10).release("chat").ask("posters", 4, kind=IMAGE).after(30),
        ArbiterStats(total_allocations=2, successful_allocations=2, average_pressure=0.5),
    ),
    "quality for as long as there was any: 20 s at 1, 20 s at 0.75": (
        lambda: Desk(10).after(40).ask("chat", 8).after(20).ask("posters", 1.25, kind=IMAGE).after(20).release("chat"),
        ArbiterStats(
            total_allocations=2,
            successful_allocations=2,
            quality_reductions=1,
            average_pressure=0.43125,
            average_llm_quality=0.875,
            average_diffusion_quality=0.75,
        ),
    ),
    "the mean over a system's allocations": (
        lambda: Desk(10).ask("one", 4, priority="High").ask("two", 5.25).after(10),
        ArbiterStats(
            total_allocations=2,
            successful_allocations=2,
            quality_reductions=1,
            average_pressure=0.925,
            average_llm_quality=0.7875,
        ),
    ),
}


@pytest.mark.parametrize(("history", "stats"), COUNTED.values(), ids=COUNTED.keys())
def test_what_is_counted(history: Callable[[], Desk], stats: ArbiterStats) -> None:
    assert history().stats == stats


def test_the_moment_in_figures() -> None:
    desk = Desk(10).ask("chat", 4, priority="High").ask("posters", 5.25, kind=IMAGE).ask("waiting", 4)
    state = desk.state
    assert (state.active_llm, state.active_diffusion, state.waiting) == (1, 1, 1)
    assert (state.llm_quality, state.diffusion_quality) == (0.825, 0.75)
    assert (state.pressure, state.pressure_level.value, state.price) == (0.925, "Critical", 0.5)
    assert (state.vram_used, state.vram_available) == (int(9.25 * 2**30), 0)
    assert desk.release("posters").state.vram_available == 2 * 2**30
