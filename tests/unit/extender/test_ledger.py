import tracemalloc
from collections.abc import Callable
from fractions import Fraction

import pytest

from arbiter.ids import GpuUuid, NodeName, NodeUid
from arbiter.placement import Newcomer
from arbiter.policy import Policy
from arbiter.units import GIB, Slices
from arbiter.workload import PolicyMode
from arbiter_extender.ledger import Ledger
from arbiter_kube.api.gpunode import GrantState
from arbiter_kube.api.occupancy import Standing
from arbiter_kube.api.qualitypolicy import QualityPolicyStatus
from arbiter_kube.api.reports import ANY_NODE
from tests.unit.extender.builders import NOW, a_ledger, a_node, a_pod, a_policy, at, uid

N1, N2 = NodeName("n1"), NodeName("n2")
A, B = GpuUuid("a"), GpuUuid("b")

Entry = tuple[str, Standing, int, dict[GpuUuid, Slices]]


def entries(ledger: Ledger, *, now: float = NOW) -> list[Entry]:
    """Pod, standing, GiB that no newcomer can have and slices by GPU of every claim on n1."""
    ledger.expire(now, epoch=now)
    view = ledger.occupancy(N1)
    assert view is not None
    return [
        (claim.pod.removeprefix("team/"), claim.standing, claim.vram // GIB, dict(claim.slices))
        for claim in view.claims
    ]


def promised(ledger: Ledger) -> Ledger:
    ledger.hold(a_pod("soft").pod, at("n1", "a"), until=NOW + 2)
    ledger.assume(a_pod("flying").pod, at("n1", "b"))
    return ledger


NODE = a_node("n1").gpu("a", "12Gi").gpu("b", "12Gi")
CHAT = a_pod("chat").bound("n1", "a")

CLAIMS: dict[str, tuple[Callable[[], Ledger], list[Entry]]] = {
    "a waiting pod claims nothing": (lambda: a_ledger(NODE, a_pod("chat")), []),
    "a bound pod claims its floor on its GPU": (
        lambda: a_ledger(NODE, CHAT),
        [("chat", Standing.BOUND, 4, {A: Slices(4)})],
    ),
    "promises claim as if they were bound": (
        lambda: promised(a_ledger(NODE)),
        [("flying", Standing.ASSUMED, 4, {B: Slices(4)}), ("soft", Standing.SOFT_HELD, 4, {A: Slices(4)})],
    ),
    "a terminating pod keeps its claim": (
        lambda: a_ledger(NODE, CHAT.terminating()),
        [("chat", Standing.BOUND, 4, {A: Slices(4)})],
    ),
    "a finished pod's floor is free at once": (
        lambda: a_ledger(NODE, CHAT.finished()),
        [],
    ),
    "a finished pod's bytes are free when the node says so": (
        lambda: a_ledger(NODE.grant("chat", "a", held="9Gi"), CHAT.finished()),
        [("chat", Standing.FINISHED, 9, {A: Slices(0)})],
    ),
    "a container whose pod is unknown counts with what it holds": (
        lambda: a_ledger(NODE.grant("ghost", "a", held="9Gi").slices("ghost", "a", 4)),
        [("ghost", Standing.REPORTED, 9, {A: Slices(4)})],
    ),
    "a grant of a pod whose bind the watch has not shown counts once": (
        lambda: promised(a_ledger(NODE.grant("flying", "b", held="9Gi", state=GrantState.STARTING))),
        [("flying", Standing.ASSUMED, 9, {B: Slices(4)}), ("soft", Standing.SOFT_HELD, 4, {A: Slices(4)})],
    ),
    "the node's word on the GPU wins": (
        lambda: a_ledger(NODE.slices("chat", "b", 4).grant("chat", "b", held="4Gi"), CHAT),
        [("chat", Standing.BOUND, 4, {B: Slices(4)})],
    ),
    "so it does before the container has started": (
        lambda: a_ledger(NODE.grant("chat", "b", held="0", state=GrantState.GATED), CHAT),
        [("chat", Standing.BOUND, 4, {B: Slices(4)})],
    ),
    "slices of a GPU that the container does not use are taken there": (
        lambda: a_ledger(NODE.slices("chat", "a", 1).slices("chat", "b", 3).grant("chat", "a", held="4Gi"), CHAT),
        [("chat", Standing.BOUND, 4, {A: Slices(1), B: Slices(3)})],
    ),
    "the kubelet may still speak of a former pod of the same name": (
        lambda: a_ledger(NODE.slices("chat", "b", 4), CHAT),
        [("chat", Standing.BOUND, 4, {A: Slices(4)})],
    ),
    "a pod that came past the extender is where the kubelet says": (
        lambda: a_ledger(NODE.slices("foreign", "b", 4), a_pod("foreign").bound("n1")),
        [("foreign", Standing.BOUND, 4, {B: Slices(4)})],
    ),
    "until the kubelet says it may be on any GPU": (
        lambda: a_ledger(NODE, a_pod("foreign").bound("n1")),
        [("foreign", Standing.BOUND, 4, {A: Slices(4), B: Slices(4)})],
    ),
    "a nomination keeps the floor": (
        lambda: a_ledger(NODE, a_pod("next").nominated("n1", "b", seconds=300)),
        [("next", Standing.NOMINATED, 4, {B: Slices(4)})],
    ),
    "a nomination of the past keeps nothing": (
        lambda: a_ledger(NODE, a_pod("next").nominated("n1", "b", seconds=-1)),
        [],
    ),
}


@pytest.mark.parametrize("sentence", CLAIMS)
def test_claims(sentence: str) -> None:
    build, expected = CLAIMS[sentence]
    assert entries(build()) == expected


def test_what_was_promised_ends_when_the_pod_is_shown_bound() -> None:
    ledger = a_ledger(NODE)
    ledger.assume(a_pod("chat").pod, at("n1", "b"))
    ledger.pod_applied(CHAT.pod)
    assert entries(ledger) == [("chat", Standing.BOUND, 4, {A: Slices(4)})]
    assert ledger.assigned(uid("chat")) == at("n1", "a")
    assert not ledger.is_assumed(uid("chat"))


def test_a_pod_that_is_shown_waiting_keeps_what_was_promised() -> None:
    ledger = a_ledger(NODE)
    ledger.assume(a_pod("chat").pod, at("n1", "b"))
    ledger.pod_applied(a_pod("chat").pod)
    assert ledger.is_assumed(uid("chat"))


def test_a_deleted_pod_leaves_nothing_behind() -> None:
    ledger = promised(a_ledger(NODE, CHAT))
    for name in ("chat", "soft", "flying", "never-seen"):
        ledger.pod_deleted(uid(name))
    assert entries(ledger) == []
    assert ledger.pod(uid("chat")) is None


def test_a_new_promise_replaces_the_old_one() -> None:
    ledger = a_ledger(NODE)
    ledger.hold(a_pod("chat").pod, at("n1", "a"), until=NOW + 2)
    ledger.hold(a_pod("chat").pod, at("n1", "b"), until=NOW + 3)
    assert entries(ledger, now=NOW + 2) == [("chat", Standing.SOFT_HELD, 4, {B: Slices(4)})]


def test_drift_is_counted_once_per_time_that_it_appears() -> None:
    there = NODE.slices("chat", "b", 4).grant("chat", "b", held="4Gi")
    ledger = a_ledger(CHAT, NODE, there, there)
    assert ledger.drift_total == 1
    ledger.pod_applied(a_pod("chat").bound("n1", "b").pod)
    assert ledger.drift_total == 1
    ledger.pod_applied(CHAT.pod)
    assert ledger.drift_total == 2


def test_the_policy_of_a_node_is_chosen_by_its_labels() -> None:
    ledger = a_ledger(NODE)
    ledger.policy_applied(a_policy("default"))
    ledger.policy_applied(a_policy("pool", mode="LlmFirst", nodeSelector={"pool": "llm"}, weight=5))

    def mode() -> PolicyMode:
        view = ledger.occupancy(N1)
        assert view is not None
        return view.room.policy.mode

    assert mode() is PolicyMode.ADAPTIVE
    ledger.node_applied(N1, {"pool": "llm"})
    assert mode() is PolicyMode.LLM_FIRST
    ledger.policy_deleted("pool")
    assert mode() is PolicyMode.ADAPTIVE


def test_a_node_that_is_deleted_has_no_labels_any_more_and_keeps_its_gpus() -> None:
    ledger = a_ledger(NODE, CHAT)
    ledger.policy_applied(a_policy("pool", mode="LlmFirst", nodeSelector={"pool": "llm"}))
    ledger.node_applied(N1, {"pool": "llm"})
    ledger.node_deleted(N1)
    view = ledger.occupancy(N1)
    assert view is not None
    assert view.room.policy.mode is PolicyMode.ADAPTIVE
    assert entries(ledger) == [("chat", Standing.BOUND, 4, {A: Slices(4)})]


def test_nodes_of_which_nothing_is_known_take_no_memory() -> None:
    ledger = a_ledger()
    tracemalloc.start()
    for number in range(1000):
        ledger.node_applied(NodeName(f"node-{number}"), {})
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 10_000


def test_without_any_policy_the_defaults_hold() -> None:
    view = a_ledger(NODE).occupancy(N1)
    assert view is not None
    assert view.room.policy == Policy(pressure_threshold=Fraction(1))


def test_a_node_whose_report_is_deleted_is_unknown() -> None:
    ledger = a_ledger(NODE, CHAT)
    ledger.report_deleted(N1)
    assert ledger.occupancy(N1) is None
    assert ledger.nodes() == ()
    ledger.report_applied(N1, NODE.report)
    assert entries(ledger) == [("chat", Standing.BOUND, 4, {A: Slices(4)})]


FORMER, OWN = NodeUid("former"), NodeUid("own")

NODES_OF_ONE_NAME: dict[str, tuple[tuple[NodeUid | None, NodeUid | None], bool]] = {
    "the node's own": ((OWN, OWN), True),
    "a former node's": ((OWN, FORMER), False),
    "its own, though the watch still shows the former node": ((FORMER, OWN), False),
    "of a node that the watch has not shown yet": ((None, OWN), True),
    "of whichever node, since it does not say": ((OWN, ANY_NODE), True),
}


@pytest.mark.parametrize("sentence", NODES_OF_ONE_NAME)
@pytest.mark.parametrize("is_node_first", [True, False], ids=["the node first", "the GpuNode first"])
def test_a_gpunode_counts_for_the_node_that_it_was_made_for(sentence: str, *, is_node_first: bool) -> None:
    (node, of), counts = NODES_OF_ONE_NAME[sentence]
    ledger = a_ledger()
    events: list[Callable[[], None]] = [lambda: ledger.report_applied(N1, NODE.report, of=of or ANY_NODE)]
    if node is not None:
        events.insert(0 if is_node_first else 1, lambda: ledger.node_applied(N1, {}, uid=node))
    for event in events:
        event()
        ledger.settle()
    assert (ledger.hardware(N1) is not None, ledger.nodes()) == (counts, (N1,) if counts else ())
    fitting = ledger.placement(besides=uid("new")).fitting(Newcomer(demand=CHAT.pod.demand))
    assert fitting == ([N1] if counts else [])


def test_a_node_that_was_made_anew_has_room_once_its_own_agent_reports() -> None:
    ledger = a_ledger()
    ledger.node_applied(N1, {}, uid=FORMER)
    ledger.report_applied(N1, NODE.report, of=FORMER)
    ledger.node_applied(N1, {}, uid=OWN)
    assert ledger.occupancy(N1) is None
    ledger.report_deleted(N1)
    ledger.report_applied(N1, NODE.report, of=OWN)
    assert entries(ledger) == []


def test_what_is_kept_for_pods_without_a_node_is_counted_while_it_lasts() -> None:
    ledger = promised(a_ledger(NODE))
    assert ledger.promised(now=NOW) == {Standing.SOFT_HELD: 1, Standing.ASSUMED: 1}
    assert ledger.promised(now=NOW + 2) == {Standing.ASSUMED: 1}


def test_a_node_that_still_counts_in_another_unit_takes_no_newcomer() -> None:
    ledger = Ledger(unit=GIB // 4)
    ledger.report_applied(N1, NODE.report)
    ledger.pod_applied(CHAT.pod)
    assert entries(ledger) == [("chat", Standing.BOUND, 4, {A: Slices(4)})]
    assert ledger.placement(besides=uid("new")).fitting(Newcomer(demand=CHAT.pod.demand)) == []


def test_an_event_that_changes_no_claim_costs_nothing() -> None:
    ledger = a_ledger(NODE, CHAT)
    assert not ledger.settle(at_most=0)
    assert ledger.settle()
    ledger.pod_applied(a_pod("chat").bound("n1", "a").pod)
    ledger.report_applied(N1, NODE.report)
    ledger.policy_applied(a_policy("default"))
    assert not ledger.settle(at_most=0)
    assert ledger.settle()
    ledger.policy_applied(a_policy("default").model_copy(update={"status": QualityPolicyStatus(nodes=1)}))
    assert ledger.settle(at_most=0)


def test_a_question_after_a_change_of_policies_waits_for_no_node_whose_claims_are_known() -> None:
    ledger = a_ledger(NODE, a_node("n2").gpu("c", "12Gi"), a_node("n3").gpu("d", "12Gi"))
    ledger.settle()
    ledger.policy_applied(a_policy("default", mode="LlmFirst"))
    ledger.pod_applied(a_pod("big").sizes(full="12Gi", floor="12Gi").bound("n2", "c").pod)
    assert ledger.placement(besides=uid("new")).fitting(Newcomer(demand=CHAT.pod.demand), [N1, N2]) == [N1]
    assert not ledger.settle(at_most=1)
    assert ledger.settle(at_most=1)


def test_a_promise_that_becomes_firmer_costs_nothing() -> None:
    ledger = a_ledger(NODE)
    ledger.hold(a_pod("next").pod, at("n1", "a"), until=NOW + 2)
    assert ledger.settle()
    ledger.assume(a_pod("next").pod, at("n1", "a"))
    assert ledger.settle(at_most=0)
    assert entries(ledger, now=NOW + 2) == [("next", Standing.ASSUMED, 4, {A: Slices(4)})]


def test_a_promise_of_another_gpu_frees_the_first() -> None:
    ledger = a_ledger(NODE)
    ledger.hold(a_pod("next").pod, at("n1", "a"), until=NOW + 2)
    ledger.assume(a_pod("next").pod, at("n1", "b"))
    assert entries(ledger, now=NOW + 2) == [("next", Standing.ASSUMED, 4, {B: Slices(4)})]


def test_what_is_held_for_a_pod_takes_the_place_of_its_nomination() -> None:
    nominated = a_pod("next").nominated("n1", "b", seconds=300)
    ledger = a_ledger(NODE, nominated)
    ledger.hold(nominated.pod, at("n1", "a"), until=NOW + 2)
    assert entries(ledger) == [("next", Standing.SOFT_HELD, 4, {A: Slices(4)})]
    assert entries(ledger, now=NOW + 2) == [("next", Standing.NOMINATED, 4, {B: Slices(4)})]


def test_a_bind_in_flight_elsewhere_ends_a_nomination_and_a_soft_hold_does_not() -> None:
    nominated = a_pod("next").nominated("n1", "b", seconds=300)
    kept = [("next", Standing.NOMINATED, 4, {B: Slices(4)})]
    ledger = a_ledger(a_node("n2").gpu("c", "12Gi"), NODE, nominated)
    large = Newcomer(demand=a_pod("large").sizes(full="12Gi", floor="12Gi").gpus(2).pod.demand)

    def has_room() -> bool:
        return bool(ledger.placement(besides=uid("large")).fitting(large, [N1]))

    ledger.hold(nominated.pod, at("n2", "c"), until=NOW + 2)
    assert entries(ledger) == kept
    assert not has_room()
    ledger.assume(nominated.pod, at("n2", "c"))
    assert entries(ledger) == []
    assert has_room()
    ledger.release(uid("next"))
    assert entries(ledger) == kept
    assert not has_room()
