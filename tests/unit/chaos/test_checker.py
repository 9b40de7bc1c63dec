"""The chaos tests' checker, held against histories that it must reject, and against the same ones done right."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from hack.journal import Step, StepKind
from tests.cluster.chaos import checker
from tests.cluster.chaos.history import GrantSeen, History, Moment, NodeSeen, PodSeen, PolicySeen
from tests.cluster.chaos.reference import GIB, MIB, Demand, Rules

Rule = Callable[[History], Iterator[str]]

CHAT = Demand(workload_type="LlmInference", priority="High", full=10 * GIB, floor=4 * GIB, maximum=1.0, minimum=0.4)
POSTERS = Demand(
    workload_type="ImageGeneration", priority="Background", full=6 * GIB, floor=1843 * MIB, maximum=1.0, minimum=0.3
)


def pod(**changes: Any) -> PodSeen:
    """A pod with 0.904 of CHAT."""
    seen = PodSeen(
        time=1.0,
        uid="chat",
        name="chat",
        phase="Running",
        node="gpu-1",
        gpus=("GPU-0",),
        demand=CHAT,
        target=0.904,
        vram=9256 * MIB,
        revision=2,
    )
    return replace(seen, **changes)


def grant(uid: str, size: int, **changes: Any) -> GrantSeen:
    return replace(GrantSeen(uid=uid, gpus=("GPU-0",), state="Movable", granted=size, held=size), **changes)


def node(*grants: GrantSeen) -> NodeSeen:
    return NodeSeen(time=1.0, name="gpu-1", usable={"GPU-0": 12 * GIB}, grants=grants)


def step(time: float, kind: StepKind, vram: int, *, revision: int = 1, quality: float = 0.904) -> Step:
    return Step(time=time, kind=kind, revision=revision, quality=quality, vram=vram, gpus=("GPU-0",))


def told(time: float, vram: int, **more: Any) -> Step:
    return step(time, StepKind.TOLD, vram, **more)


def applied(time: float, vram: int) -> Step:
    return step(time, StepKind.APPLIED, vram)


def released(time: float) -> Step:
    return Step(time=time, kind=StepKind.RELEASED)


def history(*pods: PodSeen, grants: tuple[GrantSeen, ...] = (), **journals: list[Step]) -> History:
    return History(pods=pods, nodes=(node(*grants),), journals=journals)


def smaller(*grants: GrantSeen, then: tuple[GrantSeen, ...]) -> History:
    """A GPU of 12 GiB, which loses half of it."""
    half = replace(node(*then), usable={"GPU-0": 6 * GIB})
    return History(nodes=(node(*grants), half))


def failures(seen: History) -> Iterator[str]:
    return checker.pod_failed(seen, excused=lambda pod: pod.reason == "UnexpectedAdmissionError")


BIG, HALF = 10 * GIB, 5 * GIB

WRONG: dict[str, tuple[Rule, History]] = {
    "two are told more than there is": (
        checker.byte_held_twice,
        history(chat=[told(1, BIG)], posters=[told(2, HALF)]),
    ),
    "one grows before the other has applied its shrink": (
        checker.byte_held_twice,
        history(chat=[told(1, BIG), applied(2, BIG), told(3, HALF), applied(5, HALF)], posters=[told(4, HALF)]),
    ),
    "a liar goes on using what it was asked to give back": (
        checker.byte_held_twice,
        history(chat=[told(1, BIG), told(3, HALF), applied(4, BIG)], posters=[told(5, HALF)]),
    ),
    "a newcomer starts before its predecessor has ended": (
        checker.byte_held_twice,
        history(chat=[told(1, BIG), released(3)], posters=[told(2, HALF)]),
    ),
    "a node promises more than its GPU has": (
        checker.promised_twice,
        history(grants=(grant("chat", BIG), grant("posters", HALF))),
    ),
    "a node promises more of a GPU that has become smaller": (
        checker.promised_twice,
        smaller(grant("a", 6 * GIB), grant("b", HALF), then=(grant("a", 7 * GIB), grant("b", HALF))),
    ),
    "a target below the minimum": (checker.target_out_of_bounds, history(pod(target=0.39))),
    "a target above the maximum": (checker.target_out_of_bounds, history(pod(demand=replace(CHAT, maximum=0.9)))),
    "a target below the floor": (checker.target_out_of_bounds, history(pod(vram=4 * GIB - MIB))),
    "a target above the full size": (checker.target_out_of_bounds, history(pod(vram=10 * GIB + MIB))),
    "a target of an older revision": (checker.target_out_of_bounds, history(pod(), pod(revision=1))),
    "a container is told less than its floor": (checker.told_out_of_bounds, history(pod(), chat=[told(1, 3 * GIB)])),
    "a container is told more than its full size": (
        checker.told_out_of_bounds,
        history(pod(), chat=[told(1, 11 * GIB)]),
    ),
    "a container is told an older revision": (
        checker.told_backwards,
        history(chat=[told(1, BIG, revision=2), told(2, BIG, revision=1)]),
    ),
    "a pod fails": (failures, history(pod(phase="Failed", reason="OutOfarbiter.infernum.io/vram"))),
    "a container is started again": (failures, history(pod(restarts=1))),
}

RIGHT: dict[str, tuple[Rule, History]] = {
    "one grows once the other has applied its shrink": (
        checker.byte_held_twice,
        history(chat=[told(1, BIG), applied(2, BIG), told(3, HALF), applied(4, HALF)], posters=[told(5, HALF)]),
    ),
    "a newcomer starts once its predecessor has ended": (
        checker.byte_held_twice,
        history(chat=[told(1, BIG), released(2)], posters=[told(3, HALF)]),
    ),
    "all of a GPU is promised": (checker.promised_twice, history(grants=(grant("a", 7 * GIB), grant("b", HALF)))),
    "what was promised of a GPU stands when that becomes smaller": (
        checker.promised_twice,
        smaller(grant("a", 7 * GIB), grant("b", HALF), then=(grant("a", 6 * GIB), grant("b", HALF))),
    ),
    "a target stands for a moment while its demand becomes smaller": (
        checker.target_out_of_bounds,
        history(pod(), pod(demand=replace(CHAT, full=8 * GIB))),
    ),
    "a target within": (checker.target_out_of_bounds, history(pod())),
    "a container is told its floor": (checker.told_out_of_bounds, history(pod(), chat=[told(1, 4 * GIB)])),
    "a container starts again from revision 1": (
        checker.told_backwards,
        history(chat=[told(1, BIG, revision=2), Step(time=2, kind=StepKind.STARTED), told(3, BIG, revision=1)]),
    ),
    "a pod that was deleted ends as it may": (failures, history(pod(phase="Failed", terminating=True))),
    "a pod fails for an excused reason": (failures, history(pod(phase="Failed", reason="UnexpectedAdmissionError"))),
}


@pytest.mark.parametrize(("rule", "seen"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_found(rule: Rule, seen: History) -> None:
    assert len([*rule(seen)]) == 1


@pytest.mark.parametrize(("rule", "seen"), RIGHT.values(), ids=RIGHT)
def test_what_is_right_passes(rule: Rule, seen: History) -> None:
    assert [*rule(seen)] == []


def moment(**changes: Any) -> Moment:
    """Chat and posters on 12 GiB, each with what it should have."""
    posters = pod(uid="posters", name="posters", demand=POSTERS, target=0.493, vram=3028 * MIB)
    now = Moment(
        pods={"chat": pod(), "posters": posters},
        nodes={"gpu-1": node(grant("chat", 9256 * MIB), grant("posters", 3028 * MIB))},
        policies={"default": PolicySeen(name="default")},
        wanted={},
        told={"chat": told(1, 9256 * MIB), "posters": told(1, 3028 * MIB, quality=0.493)},
    )
    return replace(now, **changes)


PODS = {**moment().pods}
HELD = {"gpu-1": node(grant("chat", 9256 * MIB, state="Held"), grant("posters", 3028 * MIB))}

UNSETTLED: dict[str, tuple[Moment, str]] = {
    "a target that does not follow from who is there": (
        moment(pods=PODS | {"chat": pod(target=0.9)}),
        "chat should be at 0.904, its target is 0.9",
    ),
    "no target": (
        moment(pods=PODS | {"chat": pod(target=None)}),
        "chat should be at 0.904, its target is None",
    ),
    "a container that has not been told": (
        moment(told={"posters": told(1, 3028 * MIB, quality=0.493)}),
        "chat should be at 0.904, it was told None",
    ),
    "a demand that was edited": (
        moment(pods=PODS | {"chat": pod(allocation="chat")}, wanted={"chat": replace(CHAT, full=8 * GIB)}),
        "posters should be at 0.666, its target is 0.493",
    ),
    "a policy that is another on this node": (
        moment(policies={"local": PolicySeen(name="local", node="gpu-1", rules=Rules(mode="LlmFirst"))}),
        "chat should be at 0.926, its target is 0.904",
    ),
    "a prompt engine that is held": (moment(nodes=HELD), "chat, honest and quick, is Held"),
    "a pod without GPUs": (moment(pods=PODS | {"bare": pod(uid="bare", gpus=())}), "is bound without GPUs"),
    "bytes of one that is gone": (
        moment(pods={"chat": pod(target=1.0)}, told={"chat": told(1, BIG, quality=1.0)}),
        "gpu-1 says that posters, which is gone, holds",
    ),
}


@pytest.mark.parametrize(("now", "sentence"), UNSETTLED.values(), ids=UNSETTLED)
def test_what_has_not_converged_is_told(now: Moment, sentence: str) -> None:
    assert any(sentence in told for told in checker.not_converged(now, prompt=["chat"]))


SETTLED = {
    "everybody has what follows": moment(),
    "a policy of another node is not asked": moment(
        policies={"local": PolicySeen(name="local", node="gpu-2", rules=Rules(mode="LlmFirst"))}
    ),
    "who is behind is told where it would go if it alone moved": moment(
        pods=PODS | {"posters": replace(PODS["posters"], target=0.4)} | {"chat": pod(target=0.9)},
        nodes={"gpu-1": node(grant("chat", 9216 * MIB, state="Late"), grant("posters", 3072 * MIB, state="Held"))},
    ),
}


@pytest.mark.parametrize("now", SETTLED.values(), ids=SETTLED)
def test_what_has_converged_passes(now: Moment) -> None:
    assert [*checker.not_converged(now)] == []


def still(held: int, *, of: int = 12 * GIB) -> Moment:
    """Nobody may move; chat, whose floor is 4 GiB, has not started, and posters holds so many bytes."""
    by_posters = grant("posters", held)
    gated = grant("chat", 0, state="Gated", granted=None)
    seen = replace(node(by_posters, gated), usable={"GPU-0": of})
    fixed = {"default": PolicySeen(name="default", rules=Rules(mode="Fixed"))}
    return moment(nodes={"gpu-1": seen}, policies=fixed)


def test_who_waits_for_bytes_that_the_others_keep_is_told() -> None:
    kept = 4 * GIB + 9 * GIB
    assert [*checker.crowded(still(9 * GIB))] == [
        f"chat cannot start: {kept} bytes stay on GPU-0, which has {12 * GIB}"
    ]


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(still(8 * GIB), id="there is room for the floor"),
        pytest.param(replace(still(9 * GIB), policies={}), id="the other one will give bytes back"),
        pytest.param(moment(), id="nobody waits"),
    ],
)
def test_who_will_have_its_floor_is_not_told(now: Moment) -> None:
    assert [*checker.crowded(now)] == []


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        pytest.param(pod(terminating=True, heard_at=1.0), "chat has not gone yet", id="a pod that does not go"),
        pytest.param(pod(), "chat was not seen by the kubelet of gpu-1 yet", id="a pod that was bound just now"),
    ],
)
def test_what_a_kubelet_has_not_heard_is_told(seen: PodSeen, sentence: str) -> None:
    assert [*checker.unheard_by_a_kubelet(moment(pods={"chat": seen}))] == [sentence]


def test_what_the_kubelet_has_heard_passes() -> None:
    seen = {"chat": pod(heard_at=1.0), "waiting": pod(uid="waiting", node=None)}
    assert [*checker.unheard_by_a_kubelet(moment(pods=seen))] == []
