"""Who gets room when, and how waiting ends (virtual time)."""

import pytest

from arbiter.local.errors import InsufficientMemory, InsufficientQuality, ShuttingDown, Timeout
from tests.unit.local.desk import IMAGE, LLM, VIDEO, Desk


def test_who_does_not_fit_waits_and_gets_room_when_it_is_free() -> None:
    desk = Desk(10).ask("first", 8).ask("second", 4)
    assert desk.waits("second")
    assert desk.release("first").holds("second")


@pytest.mark.parametrize(
    ("kind", "priority", "seconds"),
    [
        (LLM, "Background", 15.0),
        (LLM, "Low", 22.5),
        (LLM, "Normal", 30.0),
        (LLM, "High", 45.0),
        (LLM, "Critical", 60.0),
        (IMAGE, "Background", 30.0),
        (IMAGE, "Normal", 60.0),
        (IMAGE, "Critical", 120.0),
        (VIDEO, "Background", 60.0),
        (VIDEO, "Normal", 120.0),
        (VIDEO, "High", 180.0),
    ],
)
def test_it_waits_by_its_type_times_its_priority(kind: str, priority: str, seconds: float) -> None:
    desk = Desk(10).ask("first", 10, priority="Critical").ask("second", 4, kind=kind, priority=priority)
    assert desk.after(seconds - 0.001).waits("second")
    error = desk.after(0.001).error("second")
    assert isinstance(error, Timeout)
    assert error.duration == seconds
    assert str(error) == f"waited {seconds:g} s in vain: 4096 MiB were requested and 0 MiB are available."


def test_it_waits_for_as_long_as_it_says() -> None:
    desk = Desk(10).ask("first", 10).ask("second", 4, timeout=3)
    assert desk.after(2.9).waits("second")
    assert isinstance(desk.after(0.1).error("second"), Timeout)


def test_a_timeout_of_nothing_gives_it_a_chance_all_the_same() -> None:
    desk = Desk(10).ask("first", 8, timeout=0).ask("second", 8, timeout=0)
    assert desk.holds("first")
    assert isinstance(desk.error("second"), Timeout)


def test_who_does_not_wait_is_refused_at_once() -> None:
    error = Desk(10).ask("first", 8).ask("second", 4, no_wait=True).error("second")
    assert isinstance(error, InsufficientMemory)
    assert (error.requested, error.available) == (4096, 2048)


def test_who_could_never_fit_is_refused_at_once_and_nothing_is_reserved() -> None:
    desk = Desk(8).ask("huge", 100)
    error = desk.error("huge")
    assert isinstance(error, InsufficientMemory)
    assert (error.requested, error.available) == (102400, 8192)
    assert desk.state.vram_available == desk.config.vram_budget


def test_the_highest_priority_is_served_first_and_then_who_came_first() -> None:
    desk = Desk(10).ask("all", 10)
    for name, priority in (("low", "Low"), ("normal", "Normal"), ("again", "Normal"), ("high", "High")):
        desk.ask(name, 5, priority=priority)
    desk.release("all")
    assert [name for name in ("low", "normal", "again", "high") if desk.holds(name)] == ["normal", "high"]


def test_nobody_overtakes_who_waits_for_memory() -> None:
    desk = Desk(10).ask("first", 6).ask("big", 6).ask("small", 1)
    assert desk.waits("small")
    assert desk.release("first").holds("small")


def test_who_comes_with_a_higher_priority_does_not_wait_for_those_below() -> None:
    assert Desk(10).ask("first", 6).ask("big", 6).ask("small", 1, priority="High").holds("small")


def test_who_waited_too_long_lets_those_behind_it_pass() -> None:
    desk = Desk(10).ask("first", 6).ask("big", 6, timeout=5).ask("small", 1)
    assert desk.after(5).holds("small")


def test_lent_memory_is_given_back_before_somebody_gets_it() -> None:
    desk = Desk(12).ask("chat", 10, floor=4, priority="High").ask("posters", 6, kind=IMAGE)
    assert desk.waits("posters")
    assert (desk.memory("chat") < 6.1, desk.state.vram_available) == (True, 2 * 2**30)
    assert desk.acknowledge("chat").holds("posters")


def test_who_does_not_wait_takes_no_lent_memory() -> None:
    desk = Desk(12).ask("chat", 10, floor=4).ask("posters", 6, kind=IMAGE, no_wait=True)
    error = desk.error("posters")
    assert isinstance(error, InsufficientMemory)
    assert error.available == 2048
    assert desk.memory("chat") == 10


def test_a_timeout_names_those_who_have_not_given_back() -> None:
    desk = Desk(12).ask("chat", 10, floor=4).ask("posters", 6, kind=IMAGE, timeout=5)
    assert str(desk.after(5).error("posters")) == "waited 5 s in vain: llm-1 has not given its memory back."
    assert desk.memory("chat") == 10


def test_a_quality_that_is_not_to_be_had_is_waited_for() -> None:
    desk = Desk(10).ask("first", 8).ask("second", 1, quality=0.95)
    assert desk.waits("second")
    assert desk.release("first").quality("second") == 1.0


def test_who_does_not_wait_for_its_quality_is_told_which_there_is() -> None:
    error = Desk(10).ask("first", 8).ask("second", 1, quality=0.95, no_wait=True).error("second")
    assert isinstance(error, InsufficientQuality)
    assert (error.minimum, error.available) == (0.95, 0.833)


def test_a_quality_that_was_promised_is_kept() -> None:
    desk = Desk(10).ask("first", 5, quality=0.95).ask("second", 5)
    assert (desk.quality("first"), desk.quality("second")) == (0.95, 0.5)


def test_who_waits_for_quality_keeps_no_memory_from_others() -> None:
    desk = Desk(10).ask("first", 8).ask("second", 1, quality=0.95).ask("third", 1)
    assert desk.holds("third")


def test_closing_refuses_who_waits_and_leaves_holders_alone() -> None:
    desk = Desk(12).ask("chat", 10, floor=4).ask("gated", 6).ask("queued", 9).close()
    assert {type(desk.error(name)) for name in ("gated", "queued")} == {ShuttingDown}
    assert desk.state.active_llm == 1
    assert desk.release("chat").state.vram_used == 0
