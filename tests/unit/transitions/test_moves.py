"""Shrinks, grows, confirmation, lateness, restarts of the engine (rules 1, 7 to 10, 12, 13)."""

from dataclasses import replace
from fractions import Fraction

from arbiter.policy import Policy
from arbiter.transitions import (
    Engine,
    GpusChanged,
    GrantReason,
    GrantState,
    GrantStatus,
    Measured,
    PodsListed,
    Save,
    ShrinkOverdue,
    Target,
)
from tests.unit.transitions.scene import A, B, Scene, demand, gib


def test_a_shrink_is_told_at_once_and_frees_bytes_only_when_confirmed() -> None:
    scene = Scene().running("chat", size=10).aim("chat", 6)
    assert (scene.granted("chat"), scene.held("chat")) == (6, 10)
    assert scene.acknowledge("chat").held("chat") == 6


def test_a_container_that_has_not_acknowledged_does_not_move() -> None:
    scene = Scene().bound("chat", target=8).request("chat").aim("chat", 6)
    assert (scene.granted("chat"), scene.files["chat"].reason) == (8, GrantReason.SHRINKS_LATER)
    assert scene.acknowledge("chat").granted("chat") == 6


def test_a_grow_goes_as_far_as_bytes_are_free() -> None:
    scene = Scene().running("chat", size=4).running("posters", size=6).aim("chat", 10)
    assert scene.told("chat") == (Fraction("0.6"), 6)
    assert (scene.files["chat"].target, scene.files["chat"].reason) == (Fraction(1), GrantReason.GROWS_LATER)


def test_bytes_go_from_one_to_the_other_shrink_before_grow() -> None:
    scene = Scene().running("chat", size=8).running("posters", size=4).aim("posters", 6).aim("chat", 6)
    assert (scene.held("chat"), scene.granted("posters")) == (8, 4)
    assert scene.acknowledge("chat").granted("posters") == 6


def test_two_grows_are_free_and_then_one_per_restore_interval() -> None:
    scene = Scene(policy=Policy(restore_interval=30)).running("chat", size=4)
    assert [scene.aim("chat", size).granted("chat") for size in (5, 6, 7)] == [5, 6, 6]
    assert scene.after(29).granted("chat") == 6
    assert scene.after(1).granted("chat") == 7


def test_the_last_token_is_kept_from_small_grows_unless_they_reach_full() -> None:
    scene = Scene(policy=Policy(restore_interval=30)).running("chat", size=4).aim("chat", 9.9375)
    before = scene.granted("chat")
    assert scene.aim("chat", 9.96875).granted("chat") == before
    assert scene.aim("chat", 10).granted("chat") == 10


def test_a_small_grow_waits_for_a_full_bucket_and_then_reaches_its_target() -> None:
    scene = Scene(policy=Policy(restore_interval=30)).running("chat", size=4).aim("chat", 6).aim("chat", 6.0625)
    assert scene.after(29).granted("chat") == 6
    target = scene.pods["chat"].target
    scene.after(1)
    assert target is not None
    assert scene.files["chat"].quality == target.quality


def test_acknowledgements_that_are_older_unknown_or_too_large_confirm_nothing() -> None:
    scene = Scene().running("chat", size=10).aim("chat", 6)
    scene.acknowledge("chat", revision=1, vram=6).acknowledge("chat", revision=9).acknowledge("chat", vram=7)
    assert scene.held("chat") == 10


def test_where_use_is_measured_an_acknowledgement_counts_when_it_agrees() -> None:
    scene = Scene()
    scene.uses["chat"] = 9
    scene.running("chat", size=10).aim("chat", 6).acknowledge("chat").after(5)
    assert (scene.held("chat"), scene.status("chat").measured) == (10, gib(9))
    scene.uses["chat"] = 6
    assert scene.after(1).held("chat") == 6


def test_a_repeated_acknowledgement_causes_no_further_measurement() -> None:
    scene = Scene()
    scene.uses["chat"] = 9
    scene.running("chat", size=10).aim("chat", 6).acknowledge("chat").acknowledge("chat", vram=5)
    assert (scene.status("chat").applied, [type(action) for action in scene.done]) == (gib(5), [Save])


def test_a_container_that_repeats_its_acknowledgement_is_confirmed_by_a_measurement_in_between() -> None:
    scene = Scene()
    scene.uses["chat"] = 9
    scene.running("chat", size=10).aim("chat", 6).acknowledge("chat")
    measured = Measured(uid=scene.pods["chat"].uid, vram=gib(6), at=scene.now + 0.1)
    scene.now += 0.2
    assert scene.acknowledge("chat").feed(measured).held("chat") == 6


def test_an_acknowledged_step_confirms_what_came_before_it_only() -> None:
    scene = Scene().running("chat", size=10).aim("chat", 8).aim("chat", 5)
    assert scene.acknowledge("chat", revision=2, vram=8).held("chat") == 8
    assert scene.acknowledge("chat").held("chat") == 5


def test_a_shrink_that_is_not_confirmed_in_time_is_overdue_and_makes_late() -> None:
    scene = Scene().running("chat", size=10).aim("chat", 6).after(29.9)
    assert scene.status("chat").state is GrantState.MOVABLE
    scene.after(0.1)
    assert scene.answers["chat"] == ShrinkOverdue(scene.pods["chat"].uid, gib(4))
    assert (scene.status("chat").state, scene.status("chat").movable) == (GrantState.OVERDUE, False)
    assert scene.acknowledge("chat").status("chat").state is GrantState.LATE


def test_a_late_container_is_trusted_again_after_a_shrink_in_time() -> None:
    scene = Scene().running("chat", size=10).aim("chat", 6).after(30).acknowledge("chat")
    assert scene.acknowledge("chat").status("chat").state is GrantState.LATE
    assert scene.aim("chat", 5).after(10).acknowledge("chat").status("chat").state is GrantState.MOVABLE


def test_a_late_container_is_trusted_again_after_a_restart() -> None:
    scene = Scene().running("chat", size=10).aim("chat", 6).after(30).request("chat").acknowledge("chat")
    assert scene.status("chat").state is GrantState.MOVABLE


def test_an_edit_that_leaves_one_size_moves_the_container_to_it() -> None:
    scene = Scene().running("chat", size=10)
    scene.change(replace(scene.pods["chat"], demand=demand(floor=4, full=4))).aim("chat", 4).acknowledge("chat")
    assert scene.held("chat") == 4
    assert scene.files["chat"].quality == 1


def test_repeated_smaller_targets_do_not_put_off_the_grace() -> None:
    scene = Scene().running("chat", size=10)
    for size in (9, 8, 7, 6, 5, 4):
        scene.aim("chat", size).after(5)
    assert scene.status("chat").state is GrantState.OVERDUE


def test_going_back_up_ends_a_shrink_that_was_not_confirmed() -> None:
    scene = Scene().running("chat", size=10).aim("chat", 6).aim("chat", 10).after(60)
    assert (scene.held("chat"), scene.status("chat").state) == (10, GrantState.MOVABLE)


def test_sizes_stay_between_floor_and_full_whatever_the_target() -> None:
    scene = Scene().running("chat", size=10)
    assert scene.aim("chat", 1).granted("chat") == 4
    assert scene.acknowledge("chat").aim("chat", 99).granted("chat") == 10


def test_another_quality_of_the_same_bytes_is_a_new_revision() -> None:
    scene = Scene().running("chat", size=6)
    edited = replace(scene.pods["chat"], demand=demand(floor=4, full=8))
    scene.change(replace(edited, target=Target(quality=Fraction("0.75"), vram=gib(6))))
    assert (scene.told("chat"), scene.files["chat"].revision) == ((Fraction("0.75"), 6), 2)


def test_a_grow_on_two_gpus_needs_room_on_both() -> None:
    scene = Scene().running("wide", size=4, gpus=(A, B)).running("chat", size=6, gpus=(B,))
    assert scene.aim("wide", 10).granted("wide") == 6


def test_on_a_gpu_that_became_smaller_nothing_grows_and_shrinks_pass_a_starting_neighbour() -> None:
    scene = Scene().running("chat", size=6).bound("posters", target=5).request("posters")
    scene.feed(GpusChanged({A: gib(9)}))
    assert scene.aim("chat", 4).granted("chat") == 4


def test_a_restarted_engine_tells_everybody_again_what_they_were_told() -> None:
    scene = Scene().running("chat", size=8).aim("chat", 6)
    told = scene.files.pop("chat")
    assert scene.restart().files["chat"] == told
    assert scene.held("chat") == 8
    assert scene.acknowledge("chat").held("chat") == 6


def test_a_grow_that_was_saved_but_not_told_counts_as_held() -> None:
    scene = Scene().running("chat", size=6).aim("chat", 8)
    del scene.files["chat"]
    scene.boot()
    assert scene.held("chat") == 8


def test_before_the_first_complete_list_nothing_starts_grows_or_is_dropped() -> None:
    scene = Scene().running("chat", size=6)
    scene.boot().aim("chat", 8).bound("posters", target=4).request("posters")
    assert (scene.granted("chat"), scene.was_released("posters"), scene.held("chat")) == (6, False, 6)
    scene.list()
    assert (scene.granted("chat"), scene.was_released("posters")) == (6, True)
    assert scene.acknowledge("posters").granted("chat") == 8


def test_what_the_first_list_lacks_holds_until_its_processes_have_ended() -> None:
    scene = Scene().running("chat", size=6)
    scene.pods.clear()
    scene.boot().feed(PodsListed(frozenset()))
    assert (scene.held("chat"), scene.status("chat").gone) == (6, True)


def test_the_bucket_survives_a_restart_of_the_engine() -> None:
    scene = Scene().running("chat", size=4).aim("chat", 5).aim("chat", 6).restart().aim("chat", 7)
    assert scene.granted("chat") == 6
    assert scene.after(30).granted("chat") == 7


def test_an_engine_that_was_away_gives_time_to_acknowledge_before_it_calls_anyone_late() -> None:
    scene = Scene().running("chat", size=10).aim("chat", 6)
    scene.now += 60
    assert scene.restart().after(4).acknowledge("chat").status("chat").state is GrantState.MOVABLE


def test_a_status_tells_all_of_a_grant() -> None:
    scene = Scene().running("chat", size=10).aim("chat", 6)
    assert scene.status("chat") == GrantStatus(
        uid=scene.pods["chat"].uid,
        name="team/chat",
        gpus=(A,),
        start=1,
        revision=2,
        quality=Fraction("0.6"),
        granted=gib(6),
        held=gib(10),
        acknowledged=1,
        applied=gib(10),
        measured=None,
        movable=True,
        state=GrantState.MOVABLE,
        waiting=False,
        gone=False,
    )


def test_an_engine_without_containers_asks_for_no_tick() -> None:
    assert Engine(usable={A: gib(12)}, policy=Policy(), now=0.0).next_deadline() is None
