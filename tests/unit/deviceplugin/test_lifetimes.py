"""When a start or a pod is over."""

from dataclasses import replace

from arbiter.ids import GpuUuid, PodUid
from arbiter.transitions import Ended, Exited, GrantState, GrantStatus
from arbiter_deviceplugin.lifetimes import Lifetimes, Start, control_groups
from arbiter_deviceplugin.processes import Alive
from arbiter_kube.api.objects import ObjectMeta, Pod, PodPhase
from tests.unit.deviceplugin.builders import reported

UID = PodUid("11111111-2222-3333-4444-555555555555")
OLD, NEW = "a" * 64, "b" * 64
START = Start(number=2, released_at=1000.5, container="main")

NOBODY = Alive(frozenset(), frozenset())


def lives(*containers: str) -> Alive:
    return Alive(frozenset({UID}), frozenset(containers))


def pod(container: str, *, running: bool, began: float = 1000.0, phase: PodPhase = PodPhase.RUNNING) -> Pod:
    return reported(ObjectMeta(uid=UID), container, running=running, began=began, phase=phase)


def grant(*, gone: bool) -> GrantStatus:
    return GrantStatus(
        uid=UID,
        name="team/chat",
        gpus=(GpuUuid("a"),),
        start=2,
        revision=1,
        quality=None,
        granted=1,
        held=1,
        acknowledged=0,
        applied=None,
        measured=None,
        movable=False,
        state=GrantState.HELD,
        waiting=False,
        gone=gone,
    )


def exits(*looks: tuple[Pod, Alive]) -> list[Exited | None]:
    lifetimes, answers = Lifetimes(), []
    for seen, alive in looks:
        lifetimes.note_running(UID, START, seen, alive)
        answers.append(lifetimes.exited(UID, START, seen, alive))
    return answers


def test_a_container_that_was_seen_alive_has_exited_once_the_kubelet_says_so_and_no_process_is_left() -> None:
    assert exits(
        (pod(NEW, running=True), lives(NEW)),
        (pod(NEW, running=True), NOBODY),
        (pod(NEW, running=False), lives(NEW)),
        (pod(NEW, running=False), NOBODY),
    ) == [None, None, None, Exited(UID, 2)]


def test_the_end_of_a_container_that_may_be_that_of_a_former_start_says_nothing() -> None:
    assert exits((pod(OLD, running=False), NOBODY)) == [None]


def test_a_container_that_began_in_a_later_second_than_the_release_is_that_starts() -> None:
    assert exits((pod(NEW, running=False, began=1001.0), NOBODY)) == [Exited(UID, 2)]


def test_what_a_former_starts_container_leaves_behind_is_not_the_next_ones() -> None:
    lifetimes, restarted = Lifetimes(), replace(START, number=3)
    lifetimes.note_running(UID, START, pod(OLD, running=True), lives(OLD))

    answers = []
    for seen, alive in (
        (pod(OLD, running=True), lives(OLD)),
        (pod(OLD, running=False, began=1001.0), NOBODY),
        (pod(NEW, running=True), lives(NEW)),
        (pod(NEW, running=False), NOBODY),
    ):
        lifetimes.note_running(UID, restarted, seen, alive)
        answers.append(lifetimes.exited(UID, restarted, seen, alive))

    assert answers == [None, None, None, Exited(UID, 3)]


def test_another_containers_end_is_not_the_one_that_is_waited_for() -> None:
    assert exits((pod(NEW, running=True), lives(NEW)), (pod(OLD, running=False), NOBODY)) == [None, None]


def ends(*looks: tuple[bool, Pod | None, Alive]) -> list[list[Ended]]:
    lifetimes = Lifetimes()
    return [lifetimes.ended([grant(gone=gone)], {UID: seen} if seen else {}, alive) for gone, seen, alive in looks]


def test_a_vanished_pod_has_ended_after_two_looks_without_a_process() -> None:
    assert ends((True, None, lives(NEW)), (True, None, NOBODY), (True, None, NOBODY)) == [[], [], [Ended(UID)]]


def test_a_process_that_shows_up_again_starts_the_count_anew() -> None:
    looks = [(True, None, NOBODY), (True, None, lives()), (True, None, NOBODY), (True, None, NOBODY)]

    assert ends(*looks) == [[], [], [], [Ended(UID)]]


def test_a_finished_pod_has_ended_as_soon_as_its_sandbox_is_gone() -> None:
    done = pod(NEW, running=False, phase=PodPhase.SUCCEEDED)

    assert ends((False, done, lives()), (False, done, NOBODY), (False, done, NOBODY)) == [[], [], [Ended(UID)]]


def test_a_finished_pod_whose_last_start_has_exited_has_ended_though_its_sandbox_lives() -> None:
    lifetimes, running = Lifetimes(), pod(NEW, running=True)
    done = pod(NEW, running=False, phase=PodPhase.SUCCEEDED)
    lifetimes.note_running(UID, START, running, lives(NEW))

    assert lifetimes.ended([grant(gone=False)], {UID: running}, lives(NEW)) == []
    assert lifetimes.exited(UID, START, done, lives()) == Exited(UID, 2)
    assert lifetimes.ended([grant(gone=False)], {UID: done}, lives()) == [Ended(UID)]


def test_the_exit_of_an_earlier_start_does_not_end_a_finished_pod_at_once() -> None:
    lifetimes, done = Lifetimes(), pod(NEW, running=False, began=1001.0, phase=PodPhase.FAILED)
    lifetimes.note_running(UID, START, done, lives())
    lifetimes.exited(UID, START, done, lives())

    assert lifetimes.ended([replace(grant(gone=False), start=3)], {UID: done}, lives()) == []


def test_a_live_pod_without_processes_has_not_ended() -> None:
    seen = pod(NEW, running=False)

    assert ends((False, seen, NOBODY), (False, seen, NOBODY)) == [[], []]


def test_a_static_pod_whose_mirror_was_deleted_has_not_ended_while_its_processes_live() -> None:
    lifetimes, kubelets = Lifetimes(), PodUid("0" * 32)
    annotations: dict[str, str] = {"kubernetes.io/config.mirror": kubelets}
    mirror = reported(ObjectMeta(uid=UID, annotations=annotations), NEW, running=True)
    alive = Alive(frozenset({kubelets}), frozenset({NEW}))
    lifetimes.ended([grant(gone=False)], {UID: mirror}, alive)

    assert [lifetimes.ended([grant(gone=True)], {}, seen) for seen in (alive, alive, NOBODY, NOBODY)] == [
        [],
        [],
        [],
        [Ended(UID)],
    ]


def test_the_control_groups_of_running_containers_are_those_of_their_present_starts() -> None:
    alive = Alive(frozenset({UID}), frozenset({NEW}), groups={NEW: "/kubepods/x", OLD: "/kubepods/y"})
    released = {UID: START, PodUid("unseen"): START}

    assert control_groups(released, {UID: pod(NEW, running=True)}, alive) == {UID: "/kubepods/x"}
    assert control_groups(released, {UID: pod("c" * 64, running=True)}, alive) == {}
