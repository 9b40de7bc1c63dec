"""Starts: numbers, the gate, the first grant, what a restart finds (rules 2 to 6 and 11 of the transition engine)."""

from dataclasses import replace
from fractions import Fraction

from arbiter.ids import PodUid
from arbiter.policy import Policy
from arbiter.transitions import (
    Ended,
    Gated,
    GrantState,
    PodVanished,
    Publish,
    Release,
    Save,
    StartAbandoned,
    StartRequested,
)
from arbiter.workload import PolicyMode, Priority, Resize
from tests.unit.transitions.scene import A, B, Scene, demand


def test_a_lone_container_starts_at_its_target_saved_before_it_is_told() -> None:
    scene = Scene().bound("chat", target=10).request("chat")
    assert [type(action) for action in scene.done] == [Save, Publish, Release]
    assert scene.told("chat") == (Fraction(1), 10)


def test_a_start_waits_until_its_floor_is_free_and_is_told_so() -> None:
    scene = Scene().running("chat", size=10).bound("posters", target=4).request("posters")
    assert scene.done[-1] == Gated(scene.pods["posters"].uid, 1)
    assert scene.status("posters").waiting
    scene.aim("chat", 8).acknowledge("chat")
    assert scene.was_released("posters")
    assert scene.granted("posters") == 4


def test_a_start_is_refused_after_25_seconds_with_who_gives_back_what() -> None:
    scene = Scene().running("chat", size=10).bound("posters", target=4).request("posters").aim("chat", 8)
    assert scene.after(24.9).refusal("posters") is None
    scene.after(0.1)
    assert (
        scene.refusal("posters") == "start held: needs 4096Mi on gpu-1/0, 2048Mi free; team/chat is giving back 2048Mi"
    )


def test_floors_of_gated_pods_go_by_priority_then_by_age() -> None:
    scene = Scene().running("chat", size=10)
    scene.bound("old", target=4).request("old").bound("young", target=4).request("young")
    scene.bound("urgent", wants=demand(priority=Priority.HIGH), target=4).request("urgent")
    scene.aim("chat", 4).acknowledge("chat")
    assert [name for name in ("old", "young", "urgent") if scene.was_released(name)] == ["old", "urgent"]


def test_a_start_takes_less_than_its_target_rather_than_wait_for_it() -> None:
    scene = Scene().running("chat", size=6).bound("posters", target=10).request("posters")
    assert scene.was_released("posters")
    assert scene.granted("posters") == 6


def test_the_floors_of_pods_that_are_bound_are_not_lent_out() -> None:
    scene = Scene().bound("chat", target=10).bound("posters").request("chat")
    assert scene.granted("chat") == 8


def test_without_a_target_for_10_seconds_a_start_takes_its_floor() -> None:
    scene = Scene().bound("chat").request("chat")
    assert not scene.after(9.9).was_released("chat")
    assert scene.after(0.1).was_released("chat")
    assert scene.granted("chat") == 4


def test_a_fixed_demand_waits_for_no_target() -> None:
    scene = Scene().bound("triton", wants=demand(floor=5, full=5)).request("triton")
    assert scene.told("triton") == (Fraction(1), 5)


def test_a_container_that_is_sized_once_waits_24_seconds_for_shrinks_in_its_favour() -> None:
    once = demand(resize=Resize.AT_START)
    scene = Scene().running("chat", size=7).bound("posters", wants=once, target=6).request("posters")
    assert not scene.after(23).was_released("posters")
    scene.aim("chat", 6).acknowledge("chat")
    assert scene.granted("posters") == 6


def test_a_container_that_is_sized_once_takes_what_there_is_at_last() -> None:
    once = demand(resize=Resize.AT_START)
    scene = Scene().running("chat", size=7).bound("posters", wants=once, target=6).request("posters").after(24)
    assert scene.granted("posters") == 5
    assert scene.acknowledge("posters").aim("posters", 4).granted("posters") == 5


def test_who_may_wait_less_is_refused_or_sized_sooner() -> None:
    scene = Scene(start_wait=5).running("chat", size=10).bound("posters", target=4).request("posters")
    assert scene.after(4.9).refusal("posters") is None
    assert scene.after(0.1).refusal("posters") is not None

    once = demand(resize=Resize.AT_START)
    scene = Scene(start_wait=5).running("chat", size=7).bound("posters", wants=once, target=6).request("posters")
    assert not scene.after(3.9).was_released("posters")
    assert scene.after(0.1).granted("posters") == 5


def test_under_a_fixed_policy_everybody_is_sized_once() -> None:
    scene = Scene(policy=Policy(mode=PolicyMode.FIXED)).running("chat", size=6)
    assert scene.aim("chat", 8).granted("chat") == 6
    assert scene.aim("chat", 4).granted("chat") == 6
    assert not scene.status("chat").movable


def test_a_start_on_two_gpus_needs_its_floor_on_both() -> None:
    scene = Scene().running("chat", size=10, gpus=(B,)).bound("wide", gpus=(A, B), target=10).request("wide")
    assert not scene.was_released("wide")
    scene.aim("chat", 5).acknowledge("chat")
    assert scene.granted("wide") == 7


def test_only_the_exit_of_the_running_start_frees_bytes() -> None:
    scene = Scene().running("chat", size=10).request("chat").acknowledge("chat")
    scene.exit("chat", start=1)
    assert scene.status("chat").state is GrantState.MOVABLE
    assert scene.exit("chat", start=2).status("chat").state is GrantState.DOWN


def test_a_restart_finds_its_last_grant_reserved() -> None:
    scene = Scene().running("chat", size=8).exit("chat").bound("posters", target=10).request("posters")
    assert scene.held("chat") == 8
    assert scene.granted("posters") == 4
    assert scene.request("chat").granted("chat") == 8
    assert scene.files["chat"].revision == 2


def test_a_shrink_of_a_container_that_is_down_counts_at_once() -> None:
    scene = Scene().running("chat", size=10).exit("chat").bound("posters", target=6).request("posters")
    assert scene.aim("chat", 6).was_released("posters")
    assert scene.granted("posters") == 6
    assert scene.request("chat").granted("chat") == 6


def test_what_a_restarting_container_had_not_confirmed_ends_with_its_old_start() -> None:
    scene = Scene().running("chat", size=10).aim("chat", 6)
    assert scene.held("chat") == 10
    assert scene.request("chat").held("chat") == 6


def test_a_pod_that_is_deleted_by_force_holds_until_its_processes_have_ended() -> None:
    scene = Scene().running("chat", size=10).bound("posters", target=4)
    chat = scene.pods.pop("chat").uid
    scene.feed(PodVanished(chat)).request("posters")
    assert (scene.held("chat"), scene.status("chat").gone, scene.was_released("posters")) == (10, True, False)
    assert scene.feed(Ended(chat)).was_released("posters")
    assert chat not in scene.disk


def test_a_deleted_pod_that_has_not_started_reserves_nothing() -> None:
    scene = Scene().bound("chat").delete("chat").running("posters", size=10)
    assert scene.granted("posters") == 10
    assert scene.request("chat").refusal("chat") == "start held: its pod is being deleted"


def test_a_start_of_a_pod_that_the_watch_has_not_shown_waits_for_it() -> None:
    scene = Scene()
    scene.request("chat")
    assert scene.refusal("chat") is None
    assert scene.bound("chat", target=10).was_released("chat")
    assert (
        Scene().request("ghost").after(25).refusal("ghost") == "start held: its pod has not been seen on this node yet"
    )


def test_a_start_that_nobody_waits_for_any_more_takes_nothing() -> None:
    scene = Scene().running("chat", size=10).bound("posters", target=4).request("posters")
    scene.feed(StartAbandoned(scene.pods["posters"].uid, 1)).aim("chat", 4).acknowledge("chat")
    assert (scene.was_released("posters"), scene.status("posters").held) == (False, 0)


def test_while_a_neighbour_starts_nothing_moves_until_it_is_ready() -> None:
    scene = Scene().running("chat", size=4).bound("posters", target=4).request("posters")
    assert scene.aim("chat", 8).granted("chat") == 4
    assert scene.ready("posters").granted("chat") == 8


def test_a_ready_container_that_has_yet_to_acknowledge_counts_as_starting_until_the_window_ends() -> None:
    scene = Scene().bound("posters", target=4).request("posters").ready("posters")
    assert scene.status("posters").state is GrantState.STARTING
    assert scene.after(180).status("posters").state is GrantState.HELD


def test_while_a_neighbour_starts_nothing_moves_for_at_most_the_start_window() -> None:
    scene = Scene().running("chat", size=6).bound("posters", target=4).request("posters").aim("chat", 5)
    assert scene.after(179).granted("chat") == 6
    assert scene.after(1).granted("chat") == 5
    assert scene.status("posters").state is GrantState.HELD


def test_while_a_neighbour_starts_a_shrink_goes_ahead_when_a_floor_waits() -> None:
    scene = Scene().running("chat", size=6).bound("posters", target=4).request("posters")
    scene.bound("render", target=4).request("render").aim("chat", 4)
    assert scene.granted("chat") == 4


def test_the_gpus_of_a_container_that_has_started_do_not_change() -> None:
    scene = Scene().running("chat", size=10)
    scene.change(replace(scene.pods["chat"], gpus=(B,)))
    assert scene.status("chat").gpus == (A,)


def test_a_start_is_let_go_on_the_gpus_that_it_was_given_though_the_end_of_the_last_was_not_seen() -> None:
    scene = Scene().running("chat", size=10).running("posters", size=8, gpus=(B,))
    scene.change(replace(scene.pods["chat"], gpus=(B,))).request("chat")
    assert (scene.status("chat").gpus, scene.granted("chat")) == ((B,), 4)


def test_a_container_that_is_down_starts_on_the_gpus_that_it_was_given_since() -> None:
    scene = Scene().running("chat", size=10).running("posters", size=8, gpus=(B,)).exit("chat")
    scene.change(replace(scene.pods["chat"], gpus=(B,)))
    assert (scene.status("chat").gpus, scene.held("chat")) == ((B,), 0)
    scene.request("chat")
    assert (scene.granted("chat"), scene.held("posters")) == (4, 8)


def test_who_takes_the_size_with_the_answer_is_movable_from_its_release_and_keeps_nobody_still() -> None:
    scene = Scene().running("chat", size=6).bound("posters", target=4)
    scene.feed(StartRequested(scene.pods["posters"].uid, acknowledged=True))
    assert scene.status("posters").state is GrantState.MOVABLE
    assert scene.aim("chat", 8).granted("chat") == 8


def test_events_of_one_change_are_all_applied_before_a_start_is_judged() -> None:
    scene = Scene().running("chat", size=8)
    ends, posters = Ended(scene.pods["chat"].uid), replace(scene.pods["chat"], uid=PodUid("posters"))
    scene.feed(StartRequested(posters.uid), posters, ends)
    assert (scene.was_released("posters"), scene.granted("posters")) == (True, 8)
