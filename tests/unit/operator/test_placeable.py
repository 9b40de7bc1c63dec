from dataclasses import replace

from arbiter.ids import NodeName
from arbiter.units import GIB
from arbiter_operator.node import NodeState, room
from arbiter_operator.placeable import Prospect, Prospects
from tests.unit.operator.builders import POSTERS_DEMAND, demand, gpu_pod, node, on_node


def prospects(*states: NodeState) -> Prospects:
    found = Prospects()
    found.update({state.name: (state, room(state, unit=GIB)) for state in states})
    return found


def shared() -> NodeState:
    chat = gpu_pod()
    return node(chat, grants=(on_node(chat, 10240, quality=1.0),))


def test_it_says_what_the_newcomer_and_its_neighbours_would_get() -> None:
    assert prospects(shared()).of(POSTERS_DEMAND) == Prospect(
        True, "would get 0.493 (3028Mi) on gpu-1/0; team-a/chat 1.000 -> 0.904"
    )


def test_an_empty_gpu_costs_nobody_anything() -> None:
    empty = replace(node(), name=NodeName("gpu-0"))
    assert prospects(shared(), empty).of(POSTERS_DEMAND) == Prospect(True, "would get 1.000 (6144Mi) on gpu-0/0")


def test_it_says_what_is_missing() -> None:
    missing = "needs 10Gi on one GPU; gpu-1/0 has 8Gi, and 12Gi once team-a/chat ends"
    assert prospects(shared()).of(demand(full=12 * GIB, floor=10 * GIB)) == Prospect(False, missing)


def test_answers_follow_the_nodes() -> None:
    state = shared()
    found = prospects(state)
    first = found.of(POSTERS_DEMAND)
    found.update({state.name: (state, room(state, unit=GIB))})
    assert found.of(POSTERS_DEMAND) is first, "nothing changed"
    found.update({})
    assert found.of(POSTERS_DEMAND) == Prospect(
        False, "needs 1843Mi on one GPU; no node that takes it reports a healthy GPU"
    )
