import pytest

from arbiter.ids import NodeName
from arbiter.workload import Priority
from arbiter_extender.decision import FilterAnswer, FilterPlan, Reason, Refusal, filter_nodes, plan_bind, prioritize
from arbiter_extender.ledger import Ledger
from arbiter_extender.promises import Assignment
from arbiter_kube.api.gpunode import GrantState
from tests.unit.extender.builders import NOW, PodBuilder, a_ledger, a_node, a_pod, at

N1, N2 = NodeName("n1"), NodeName("n2")


def two_nodes() -> Ledger:
    return a_ledger(a_node("n1").gpu("a", "12Gi"), a_node("n2").gpu("b", "12Gi"))


FILTERS: dict[str, tuple[Ledger, PodBuilder, FilterPlan]] = {
    "a node where the floor has room passes, and with one left its room is to be held": (
        a_ledger(a_node("n1").gpu("a", "12Gi"), a_node("n2").gpu("b", "3Gi")),
        a_pod("chat"),
        FilterPlan(passed=(N1,), unresolvable={N2: Reason.TOO_SMALL}, hold=at("n1", "a")),
    ),
    "where several pass nothing is held, since prioritize follows": (
        two_nodes(),
        a_pod("chat"),
        FilterPlan(passed=(N1, N2)),
    ),
    "a node whose agent has not reported may pass later": (
        a_ledger(a_node("n1").gpu("a", "12Gi")),
        a_pod("chat"),
        FilterPlan(passed=(N1,), failed={N2: Reason.NOT_REPORTED}, hold=at("n1", "a")),
    ),
    "floors of bound pods take room, full sizes do not": (
        a_ledger(
            a_node("n1").gpu("a", "12Gi"),
            a_pod("full").sizes(full="12Gi", floor="8Gi").bound("n1", "a"),
            a_node("n2").gpu("b", "12Gi"),
            a_pod("fuller").sizes(full="12Gi", floor="9Gi").bound("n2", "b"),
        ),
        a_pod("chat"),
        FilterPlan(passed=(N1,), unresolvable={N2: Reason.NO_ROOM}, hold=at("n1", "a")),
    ),
    "unless who starts with one keeps it, and may have started already": (
        a_ledger(
            a_node("n1").gpu("a", "12Gi"),
            a_pod("once").at_start().bound("n1", "a"),
            a_node("n2").gpu("b", "12Gi").grant("sized", "b", held="7Gi"),
            a_pod("sized").at_start().bound("n2", "b"),
        ),
        a_pod("chat"),
        FilterPlan(passed=(N2,), unresolvable={N1: Reason.NO_ROOM}, hold=at("n2", "b")),
    ),
    "free units that no single GPU has are no room": (
        a_ledger(
            a_node("n1").gpu("a", "6Gi").gpu("b", "6Gi"),
            a_pod("one").sizes(full="3Gi", floor="3Gi").bound("n1", "a"),
            a_pod("two").sizes(full="3Gi", floor="3Gi").bound("n1", "b"),
        ),
        a_pod("chat"),
        FilterPlan(passed=(), failed={N2: Reason.NOT_REPORTED}, unresolvable={N1: Reason.NO_ROOM}),
    ),
    "a pod of two GPUs needs two with room": (
        a_ledger(
            a_node("n1").gpu("a", "12Gi").gpu("b", "12Gi"),
            a_pod("one").sizes(full="9Gi", floor="9Gi").bound("n1", "a"),
            a_node("n2").gpu("c", "12Gi").gpu("d", "12Gi"),
        ),
        a_pod("wide").gpus(2),
        FilterPlan(passed=(N2,), unresolvable={N1: Reason.TOO_FEW}, hold=at("n2", "c", "d")),
    ),
    "a floor is rounded up to the slices that the kubelet hands out": (
        a_ledger(
            a_node("n1").gpu("a", "4Gi"),
            *(a_pod(f"small-{n}").sizes(full="1100Mi", floor="1100Mi").bound("n1", "a") for n in range(2)),
            a_node("n2").gpu("b", "4Gi"),
        ),
        a_pod("chat").sizes(full="1Gi", floor="1Gi"),
        FilterPlan(passed=(N2,), unresolvable={N1: Reason.NO_ROOM}, hold=at("n2", "b")),
    ),
    "a pod that reserves more slices than its floor needs room for all of them": (
        a_ledger(a_node("n1").gpu("a", "5Gi"), a_node("n2").gpu("b", "6Gi")),
        a_pod("edited").sizes(full="6Gi", floor="4Gi").reserving(6),
        FilterPlan(passed=(N2,), unresolvable={N1: Reason.TOO_SMALL}, hold=at("n2", "b")),
    ),
    "a GPU that is large enough in bytes and not in slices never fits": (
        a_ledger(a_node("n1").gpu("a", "4500Mi").gpu("b", "4500Mi"), a_node("n2").gpu("c", "5Gi")),
        a_pod("chat").sizes(full="4200Mi", floor="4200Mi"),
        FilterPlan(passed=(N2,), unresolvable={N1: Reason.TOO_SMALL}, hold=at("n2", "c")),
    ),
    "a node with fewer GPUs as large as the floor than the pod wants never fits": (
        a_ledger(
            a_node("n1").gpu("a", "12Gi").gpu("b", "3Gi"),
            a_node("n2").gpu("c", "12Gi").gpu("d", "12Gi"),
        ),
        a_pod("wide").gpus(2),
        FilterPlan(passed=(N2,), unresolvable={N1: Reason.TOO_FEW_LARGE}, hold=at("n2", "c", "d")),
    ),
    "a node that counts in another unit says so": (
        a_ledger(a_node("n1").gpu("a", "12Gi").counting_in("256Mi"), a_node("n2").gpu("b", "12Gi")),
        a_pod("chat"),
        FilterPlan(passed=(N2,), unresolvable={N1: Reason.OTHER_UNIT}, hold=at("n2", "b")),
    ),
    "a node whose agent has made its GpuNode and said nothing in it yet may pass later": (
        a_ledger(a_node("n1").counting_in("0"), a_node("n2").gpu("b", "12Gi")),
        a_pod("chat"),
        FilterPlan(passed=(N2,), failed={N1: Reason.NOT_REPORTED}, hold=at("n2", "b")),
    ),
    "an unhealthy GPU has no room, and counts as large enough": (
        a_ledger(a_node("n1").gpu("a", "12Gi", healthy=False), a_node("n2").gpu("b", "12Gi")),
        a_pod("chat"),
        FilterPlan(passed=(N2,), unresolvable={N1: Reason.NO_ROOM}, hold=at("n2", "b")),
    ),
    "held bytes of a container that does not give way take room beyond its floor": (
        a_ledger(
            a_node("n1").gpu("a", "12Gi").grant("late", "a", held="9Gi", state=GrantState.LATE),
            a_pod("late").bound("n1", "a"),
            a_node("n2").gpu("b", "12Gi").grant("kind", "b", held="9Gi", state=GrantState.MOVABLE),
            a_pod("kind").bound("n2", "b"),
        ),
        a_pod("chat"),
        FilterPlan(passed=(N2,), unresolvable={N1: Reason.NO_ROOM}, hold=at("n2", "b")),
    ),
    "a start that has not acknowledged keeps what it was granted": (
        a_ledger(
            a_node("n1").gpu("a", "12Gi").grant("new", "a", held="10Gi", state=GrantState.STARTING),
            a_pod("new").bound("n1", "a"),
        ),
        a_pod("chat"),
        FilterPlan(passed=(), failed={N2: Reason.NOT_REPORTED}, unresolvable={N1: Reason.NO_ROOM}),
    ),
    "a pod that is being bound passes on its node alone": (
        a_ledger(
            a_node("n1").gpu("a", "12Gi"),
            a_node("n2").gpu("b", "12Gi"),
            a_pod("chat").bound("n2", "b"),
        ),
        a_pod("chat"),
        FilterPlan(passed=(N2,), failed={N1: Reason.ELSEWHERE}),
    ),
}


@pytest.mark.parametrize("sentence", FILTERS)
def test_filter(sentence: str) -> None:
    ledger, pod, expected = FILTERS[sentence]
    assert filter_nodes(ledger, pod.pod, (N1, N2)) == expected


@pytest.mark.parametrize("sentence", FILTERS)
def test_a_filter_that_names_the_best_holds_what_prioritize_would(sentence: str) -> None:
    ledger, pod, everything = FILTERS[sentence]
    plan = filter_nodes(ledger, pod.pod, (N1, N2), answer=FilterAnswer.BEST)
    if ledger.assigned(pod.pod.uid) is not None or not everything.passed:
        assert plan == everything
    else:
        best = prioritize(ledger, pod.pod, everything.passed)
        assert best is not None
        assert plan == FilterPlan(passed=(best.node,), hold=best)


def test_the_second_filter_for_one_free_slot_finds_it_held() -> None:
    ledger = a_ledger(a_node("n1").gpu("a", "7Gi"))
    first = filter_nodes(ledger, a_pod("first").pod, (N1,))
    assert first.hold is not None
    ledger.hold(a_pod("first").pod, first.hold, until=NOW + 2)
    assert filter_nodes(ledger, a_pod("second").pod, (N1,)) == FilterPlan(passed=(), unresolvable={N1: Reason.NO_ROOM})


def test_a_pod_is_not_in_its_own_way() -> None:
    ledger = a_ledger(a_node("n1").gpu("a", "7Gi"))
    ledger.hold(a_pod("chat").pod, at("n1", "a"), until=NOW + 2)
    again = filter_nodes(ledger, a_pod("chat").pod, (N1,))
    assert again == FilterPlan(passed=(N1,), hold=at("n1", "a"))


def test_a_soft_hold_ends_with_its_time() -> None:
    ledger = a_ledger(a_node("n1").gpu("a", "7Gi"))
    ledger.hold(a_pod("first").pod, at("n1", "a"), until=NOW + 2)
    ledger.expire(NOW + 2, epoch=NOW)
    assert filter_nodes(ledger, a_pod("second").pod, (N1,)).passed == (N1,)


def test_an_assumed_pod_keeps_its_room_however_long_it_takes() -> None:
    ledger = a_ledger(a_node("n1").gpu("a", "7Gi"))
    ledger.hold(a_pod("first").pod, at("n1", "a"), until=NOW + 2)
    ledger.assume(a_pod("first").pod, at("n1", "a"))
    ledger.expire(NOW + 1e6, epoch=NOW)
    assert filter_nodes(ledger, a_pod("second").pod, (N1,)).passed == ()


def test_nominated_room_is_kept_from_others_and_open_to_its_pod() -> None:
    nominated = a_pod("waiting").nominated("n1", "a", seconds=300)
    ledger = a_ledger(a_node("n1").gpu("a", "7Gi"), nominated)
    assert filter_nodes(ledger, a_pod("other").pod, (N1,)).passed == ()
    assert filter_nodes(ledger, nominated.pod, (N1,)).passed == (N1,)
    ledger.expire(NOW, epoch=NOW + 300)
    assert filter_nodes(ledger, a_pod("other").pod, (N1,)).passed == (N1,)


def test_a_nomination_that_no_longer_fits_keeps_nothing() -> None:
    ledger = a_ledger(
        a_node("n1").gpu("a", "7Gi"),
        a_pod("waiting").nominated("n1", "a", seconds=300),
        a_pod("squatter").bound("n1", "a"),
    )
    little = a_pod("little").sizes(full="3Gi", floor="3Gi")
    assert filter_nodes(ledger, little.pod, (N1,)).passed == (N1,)


PRIORITIES: dict[str, tuple[Ledger, PodBuilder, Assignment | None]] = {
    "the fullest node where everybody keeps full quality": (
        a_ledger(
            a_node("n1").gpu("a", "24Gi"),
            a_node("n2").gpu("b", "24Gi"),
            a_pod("there").bound("n2", "b"),
        ),
        a_pod("chat"),
        at("n2", "b"),
    ),
    "else where the least quality is lost": (
        a_ledger(
            a_node("n1").gpu("a", "12Gi"),
            a_pod("critical").priority(Priority.CRITICAL).bound("n1", "a"),
            a_node("n2").gpu("b", "18Gi"),
            a_pod("normal").bound("n2", "b"),
        ),
        a_pod("chat"),
        at("n2", "b"),
    ),
    "equals by name": (two_nodes(), a_pod("chat"), at("n1", "a")),
    "nowhere, once the room is gone": (
        a_ledger(a_node("n1").gpu("a", "3Gi")),
        a_pod("chat"),
        None,
    ),
}


@pytest.mark.parametrize("sentence", PRIORITIES)
def test_prioritize_chooses(sentence: str) -> None:
    ledger, pod, expected = PRIORITIES[sentence]
    assert prioritize(ledger, pod.pod, (N1, N2)) == expected


def test_bind_takes_what_is_held() -> None:
    ledger = a_ledger(a_node("n1").gpu("a", "24Gi").gpu("b", "24Gi"))
    ledger.hold(a_pod("chat").pod, at("n1", "b"), until=NOW + 2)
    assert plan_bind(ledger, a_pod("chat").pod, N1) == at("n1", "b")


def test_bind_chooses_anew_where_another_node_was_picked() -> None:
    ledger = two_nodes()
    ledger.hold(a_pod("chat").pod, at("n1", "a"), until=NOW + 2)
    assert plan_bind(ledger, a_pod("chat").pod, N2) == at("n2", "b")


def test_bind_chooses_anew_where_the_held_gpu_fell_ill() -> None:
    ledger = a_ledger(a_node("n1").gpu("a", "24Gi").gpu("b", "24Gi"))
    ledger.hold(a_pod("chat").pod, at("n1", "b"), until=NOW + 2)
    ledger.report_applied(N1, a_node("n1").gpu("a", "24Gi").gpu("b", "24Gi", healthy=False).report)
    assert plan_bind(ledger, a_pod("chat").pod, N1) == at("n1", "a")


def test_bind_is_refused_where_the_room_was_taken_meanwhile() -> None:
    ledger = a_ledger(a_node("n1").gpu("a", "7Gi"))
    ledger.assume(a_pod("quick").pod, at("n1", "a"))
    assert plan_bind(ledger, a_pod("slow").pod, N1) == Refusal(
        "team/slow cannot be bound to n1: the room for its floor of 4Gi was taken meanwhile."
    )


def test_bind_asked_twice_answers_the_same() -> None:
    ledger = a_ledger(a_node("n1").gpu("a", "7Gi").gpu("b", "7Gi"))
    ledger.assume(a_pod("chat").pod, at("n1", "b"))
    assert plan_bind(ledger, a_pod("chat").pod, N1) == at("n1", "b")


def test_bind_to_a_second_node_is_refused_while_the_first_is_under_way() -> None:
    ledger = two_nodes()
    ledger.assume(a_pod("chat").pod, at("n1", "a"))
    assert plan_bind(ledger, a_pod("chat").pod, N2) == Refusal(
        "team/chat is being bound to n1 and cannot be bound to n2."
    )
