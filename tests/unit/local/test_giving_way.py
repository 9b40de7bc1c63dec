"""Preemption, pressure, and those who do not give back (virtual time)."""

from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import InsufficientMemory, Preempted, Timeout
from arbiter.workload import MemoryPressure, PolicyMode
from tests.unit.local.desk import IMAGE, Desk


def leavers(desk: Desk) -> list[str]:
    return [name for name, target in desk.told.items() if target.preempted_by is not None]


def test_two_levels_below_is_told_to_leave_and_its_room_goes_to_who_it_left_for() -> None:
    desk = Desk(10).ask("batch", 8, priority="Low").ask("chat", 6, priority="High")
    assert (desk.told["batch"].preempted_by, desk.waits("chat")) == ("llm-2", True)
    assert desk.release("batch").holds("chat")
    assert desk.stats.preemptions == 1


def test_one_level_below_stays() -> None:
    desk = Desk(10).ask("batch", 8).ask("chat", 6, priority="High")
    assert (leavers(desk), desk.waits("chat")) == ([], True)


def test_the_lowest_and_the_youngest_of_the_lowest_leaves() -> None:
    desk = Desk(20).ask("low", 6, priority="Low").ask("old", 4, priority="Background").after(1)
    desk.ask("young", 2, priority="Background").after(1).ask("younger", 2, priority="Background")
    assert leavers(desk.ask("chat", 8, priority="High")) == ["younger"]


def test_nobody_leaves_in_vain() -> None:
    desk = Desk(12).ask("batch", 4, priority="Background").ask("main", 8, priority="High")
    assert leavers(desk.ask("chat", 5, priority="Critical")) == []


def test_only_those_leave_who_have_to() -> None:
    desk = Desk(12).ask("small", 1, priority="Background").ask("large", 6, priority="Background")
    assert leavers(desk.ask("chat", 8, priority="High")) == ["large"]


def test_while_somebody_leaves_nobody_else_has_to() -> None:
    desk = Desk(12).ask("one", 6, priority="Background").after(1).ask("two", 6, priority="Background")
    assert leavers(desk.ask("chat", 6, priority="High").after(5)) == ["two"]


def test_who_does_not_wait_makes_nobody_leave() -> None:
    desk = Desk(10).ask("batch", 8, priority="Low").ask("chat", 6, priority="Critical", no_wait=True)
    assert leavers(desk) == []
    assert isinstance(desk.error("chat"), InsufficientMemory)


def test_who_was_about_to_start_is_refused_rather_than_told_to_leave() -> None:
    desk = Desk(12).ask("main", 10, floor=4, priority="Critical").ask("batch", 7, priority="Background")
    assert desk.waits("batch")
    assert isinstance(desk.ask("chat", 6, priority="High").error("batch"), Preempted)
    assert desk.acknowledge("main").holds("chat")


def test_who_was_told_to_leave_keeps_its_bytes_until_it_does() -> None:
    desk = Desk(10).ask("batch", 8, priority="Low").ask("chat", 6, priority="High", timeout=100)
    assert desk.after(29).state.vram_used >= 8 * 2**30
    assert isinstance(desk.after(71).error("chat"), Timeout)
    assert str(desk.error("chat")) == "waited 100 s in vain: llm-1 has not given its memory back."


def test_who_does_not_leave_in_time_counts_again() -> None:
    desk = Desk(10).ask("batch", 8, priority="Low").ask("chat", 6, priority="High", timeout=100).after(15)
    assert desk.ask("next", 4, no_wait=True).refused["next"].args != ()
    assert desk.ask("waiting", 4, timeout=100).waits("waiting")
    assert desk.state.pressure == 1.0
    assert desk.after(15).state.pressure == 1.8


def test_above_ninety_percent_nothing_new_starts() -> None:
    desk = Desk(20).ask("main", 18).ask("small", 1).ask("other", 1, no_wait=True)
    assert desk.waits("small")
    assert desk.state.pressure_level is MemoryPressure.CRITICAL
    reason = "pressure is Critical (90% are promised), and nothing new starts."
    assert str(desk.ask("third", 1, no_wait=True, priority="High").error("third")) == (
        f"1024 MiB were requested and 2048 MiB are available: {reason}"
    )
    assert desk.release("main").holds("small")


def test_what_takes_it_above_ninety_percent_may_start() -> None:
    assert Desk(20).ask("main", 17).ask("rest", 3).holds("rest")


def test_above_three_quarters_background_work_pauses_and_goes_on_afterwards() -> None:
    desk = Desk(20).ask("batch", 4, priority="Background").ask("main", 10)
    assert not desk.told["batch"].paused
    assert desk.ask("more", 1).told["batch"].paused
    assert not desk.told["main"].paused
    assert not desk.release("more").told["batch"].paused


def test_above_three_quarters_new_background_work_waits() -> None:
    desk = Desk(20).ask("main", 15).ask("batch", 2, priority="Background")
    assert desk.waits("batch")
    refused = desk.ask("another", 1, priority="Background", no_wait=True).error("another")
    assert isinstance(refused, InsufficientMemory)
    reason = "pressure is High (75% are promised), and Background work pauses."
    assert str(desk.after(15).error("batch")).endswith(f"2048 MiB were requested and 5120 MiB are available: {reason}")


def test_background_work_does_not_pause_for_its_own_like() -> None:
    desk = Desk(20).ask("one", 10, priority="Background").ask("two", 7, priority="Background")
    assert not desk.told["two"].paused
    assert desk.holds("two")


def test_lent_memory_is_no_pressure() -> None:
    desk = Desk(10).ask("chat", 10, floor=4)
    assert (desk.memory("chat"), desk.state.pressure_level) == (8.84, MemoryPressure.LOW)
    assert desk.ask("guest", 4).acknowledge("chat").holds("guest")


def test_who_does_not_give_back_in_time_counts_with_what_it_holds() -> None:
    desk = Desk(14).ask("chat", 10, floor=4).ask("posters", 6, kind=IMAGE, floor=3)
    assert (desk.memory("posters"), desk.state.pressure) == (3.995, 0.5)
    assert desk.after(30).state.pressure == 13 / 14
    assert desk.acknowledge("chat").memory("posters") > 4
    assert 0.5 < desk.state.pressure < 13 / 14


def test_who_gave_back_too_late_is_trusted_again_after_giving_back_in_time() -> None:
    desk = Desk(14).ask("chat", 10, floor=4).ask("posters", 6, kind=IMAGE, floor=3).after(30).acknowledge("chat")
    desk.ask("guest", 1).acknowledge("chat")
    assert desk.state.pressure == 8 / 14


def test_late_and_stale_acknowledgements_do_no_harm() -> None:
    desk = Desk(12).ask("chat", 10, floor=4)
    full = desk.told["chat"]
    desk.ask("posters", 8, kind=IMAGE)
    for _ in range(3):
        desk.acknowledge("chat", target=full)
    assert desk.waits("posters")
    assert desk.acknowledge("chat").acknowledge("chat").holds("posters")


def test_fixed_sizes_everybody_once() -> None:
    desk = Desk(12, ArbiterConfig(policy=PolicyMode.FIXED)).ask("chat", 9, floor=4).ask("posters", 6, floor=2)
    assert (desk.memory("chat"), desk.quality("chat")) == (9, 1)
    assert desk.memory("posters") == 3
    assert desk.release("chat").memory("posters") == 3


def test_a_grow_of_one_allocation_is_damped_and_arrives() -> None:
    desk = Desk(12).ask("chat", 10, floor=4)
    desk.ask("guest", 6).acknowledge("chat")
    sizes = []
    for _ in range(4):
        desk.release("guest")
        sizes.append(desk.memory("chat"))
        desk.ask("guest", 6).acknowledge("chat")
    assert sizes == [10, 10, desk.memory("chat"), desk.memory("chat")]
    assert desk.release("guest").after(20).memory("chat") == 10


def test_who_should_leave_for_a_request_that_gives_up_may_stay() -> None:
    desk = Desk(12).ask("batch", 10, priority="Background").ask("chat", 6, priority="High", timeout=5)
    assert leavers(desk) == ["batch"]
    desk.after(5)
    assert (leavers(desk), isinstance(desk.error("chat"), Timeout)) == ([], True)
    assert (desk.state.pressure, desk.state.vram_available) == (10 / 12, 2 * 2**30)


def test_who_should_leave_for_a_request_that_is_taken_back_may_stay() -> None:
    desk = Desk(12).ask("batch", 10, priority="Background").ask("chat", 6, priority="High").release("chat")
    assert leavers(desk) == []
    assert leavers(desk.ask("urgent", 6, priority="Critical")) == ["batch"]


def test_who_has_overstayed_may_stay_too() -> None:
    desk = Desk(12).ask("batch", 10, priority="Background").ask("chat", 6, priority="High", timeout=100).after(100)
    assert (leavers(desk), desk.state.pressure) == ([], 10 / 12)
    assert desk.after(1000).state.vram_used == 10 * 2**30


def test_who_should_leave_has_to_as_long_as_somebody_else_counts_on_its_room() -> None:
    desk = Desk(12).ask("batch", 10, priority="Background").ask("chat", 6, priority="High", timeout=5)
    desk.ask("posters", 4, kind=IMAGE, timeout=20).after(5)
    assert (leavers(desk), desk.waits("posters")) == (["batch"], True)
    assert leavers(desk.after(15)) == []


def test_who_should_leave_may_stay_where_the_request_can_do_without_its_room() -> None:
    desk = Desk(12, ArbiterConfig(pressure_threshold=1)).ask("batch", 4, priority="Background").ask("small", 2)
    desk.ask("chat", 6, floor=2).ask("urgent", 5, priority="High")
    assert leavers(desk) == ["batch"]
    assert leavers(desk.release("small")) == []
    assert desk.acknowledge("chat").holds("urgent")
    assert (desk.memory("chat"), desk.stats.preemptions) == (3, 1)


def test_of_those_who_should_leave_the_most_important_may_stay_first() -> None:
    desk = Desk(12).ask("batch", 6, priority="Background").ask("main", 6, priority="Low")
    assert leavers(desk.ask("chat", 7, priority="High", timeout=5)) == ["batch", "main"]
    desk.ask("posters", 4, kind=IMAGE, priority="High", timeout=100).after(5)
    assert (leavers(desk), desk.waits("posters")) == (["batch"], True)
    assert desk.release("batch").holds("posters")


def test_who_should_leave_may_stay_where_the_request_came_in_without_its_room() -> None:
    desk = Desk(12).ask("chat", 6, priority="High").ask("batch", 5, priority="Background")
    desk.ask("urgent", 4, priority="Critical")
    assert leavers(desk) == ["batch"]
    assert desk.release("chat").holds("urgent")
    assert leavers(desk) == []
