from dataclasses import replace
from fractions import Fraction

import pytest

from arbiter.ids import GpuUuid
from arbiter.policy import Policy
from arbiter.units import GIB, MIB
from arbiter.workload import MemoryPressure, PolicyMode
from arbiter_kube.api.annotations import TargetGrant
from arbiter_kube.api.gpunode import GrantState, SliceCount
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.node import NodeState
from arbiter_operator.targets import PodTarget, plan
from tests.unit.operator.builders import demand, gpu_pod, node, on_node, posters, report, target

AT_START = demand(resize="AtStart")


def told(state: NodeState, before: NodeState | None = None) -> dict[str, tuple[str, int, int]]:
    """Quality, MiB and revision that each pod would be told anew."""
    return {
        change.pod.name: (change.grant.quality, change.grant.vram // MIB, change.grant.revision)
        for change in plan(state, before=before).changes
        if change.grant is not None
    }


def reasons(state: NodeState, before: NodeState | None = None) -> list[str]:
    """The reasons of the new targets, in the order of the pods' UIDs."""
    return [change.grant.reason for change in plan(state, before=before).changes if change.grant is not None]


def test_a_pod_alone_gets_full_quality() -> None:
    assert plan(node(gpu_pod())).changes == (
        PodTarget(
            pod=gpu_pod(),
            grant=TargetGrant(
                quality="1.000",
                vram=10 * GIB,
                revision=1,
                pressure=MemoryPressure.LOW,
                mode="Adaptive",
                reason="placed on gpu-1/0",
            ),
        ),
    )


def test_two_share_as_the_golden_figures_say() -> None:
    chat = gpu_pod(grant=target("1.000", 10240))
    state = node(chat, posters())
    assert told(state) == {"chat-0": ("0.904", 9256, 2), "posters-0": ("0.493", 3028, 1)}
    assert reasons(state, node(chat)) == [
        "team-b/posters (Background) joined gpu-1/0",
        "placed on gpu-1/0 beside team-a/chat (High)",
    ]
    assert {change.grant.pressure for change in plan(state).changes if change.grant} == {MemoryPressure.HIGH}
    assert {gpu: round(float(price.price), 3) for gpu, price in plan(state).prices.items()} == {"GPU-0": 0.356}


def test_nothing_is_written_where_nothing_changes() -> None:
    chat, image = gpu_pod(grant=target("0.904", 9256)), posters(grant=target("0.493", 3028))
    assert plan(node(chat, image)).changes == ()


def test_the_room_of_who_leaves_goes_to_who_stays() -> None:
    chat, image = gpu_pod(grant=target("0.904", 9256, revision=2)), posters(grant=target("0.493", 3028))
    before, after = node(chat, image), node(chat, replace(image, finished=True))
    assert told(after, before) == {"chat-0": ("1.000", 10240, 3)}
    assert reasons(after, before) == ["team-b/posters (Background) left gpu-1/0"]


def test_bytes_of_a_finished_pod_count_until_the_node_says_they_are_free() -> None:
    chat, image = gpu_pod(grant=target("0.904", 9256)), posters(finished=True)
    holding = node(chat, image, grants=(on_node(image, 6144, state=GrantState.HELD),))
    assert told(holding) == {"chat-0": ("0.600", 6144, 2)}


def test_bytes_of_a_pod_that_nobody_knows_count_as_held() -> None:
    chat, stranger = gpu_pod(), gpu_pod("stranger")
    assert told(node(chat, grants=(on_node(stranger, 8192),))) == {"chat-0": ("0.400", 4096, 1)}


@pytest.mark.parametrize(
    ("pod", "state"),
    [
        pytest.param(gpu_pod(of=AT_START, grant=target("1.000", 10240)), GrantState.HELD, id="sized once"),
        pytest.param(gpu_pod(grant=target("1.000", 10240)), GrantState.HELD, id="never acknowledged"),
        pytest.param(gpu_pod(grant=target("1.000", 10240), terminating=True), GrantState.MOVABLE, id="leaving"),
    ],
)
def test_who_cannot_move_keeps_what_it_holds_and_is_told_nothing(pod: GpuPod, state: GrantState) -> None:
    assert told(node(pod, posters(), grants=(on_node(pod, 10240, state=state),))) == {"posters-0": ("0.333", 2045, 1)}


@pytest.mark.parametrize("state", [GrantState.OVERDUE, GrantState.LATE])
def test_who_is_behind_is_held_for_the_others_and_still_asked(state: GrantState) -> None:
    chat = gpu_pod(grant=target("1.000", 10240))
    shared = node(chat, posters(), grants=(on_node(chat, 10240, state=state),))
    assert told(shared) == {"chat-0": ("0.904", 9256, 2), "posters-0": ("0.333", 2045, 1)}


def test_what_is_sized_at_its_start_has_a_target_until_then() -> None:
    assert told(node(gpu_pod(of=AT_START))) == {"chat-0": ("1.000", 10240, 1)}


def test_under_a_fixed_policy_only_who_has_no_grant_yet_is_told() -> None:
    chat = gpu_pod(grant=target("0.900", 9216))
    fixed = Policy(mode=PolicyMode.FIXED)
    assert told(node(chat, posters(), grants=(on_node(chat, 9216),), policy=fixed)) == {"posters-0": ("0.500", 3071, 1)}


def test_a_change_of_the_policy_is_the_reason() -> None:
    chat, image = gpu_pod(grant=target("0.904", 9256)), posters(grant=target("0.493", 3028))
    before = node(chat, image)
    after = replace(before, policy=Policy(mode=PolicyMode.LLM_FIRST), policy_name="default")
    assert told(after, before) == {"chat-0": ("0.926", 9482, 2), "posters-0": ("0.455", 2795, 2)}
    assert set(reasons(after, before)) == {"policy default (mode LlmFirst) applies to gpu-1"}


def test_one_quality_holds_on_several_gpus() -> None:
    first, second = GpuUuid("GPU-0"), GpuUuid("GPU-1")
    both = gpu_pod("both", of=demand(priority="Normal", gpu_count=2), gpus=(first, second))
    left = gpu_pod(
        "left", of=demand(kind="ImageGeneration", priority="Background", full=6 * GIB, floor=1843 * MIB, minimum="0.3")
    )
    right = gpu_pod(
        "right",
        of=demand(kind="ImageGeneration", priority="Normal", full=8 * GIB, floor=2 * GIB, minimum="0.3"),
        gpus=(second,),
    )
    state = node(both, left, right, usable=(12 * GIB, 12 * GIB))
    qualities = {name: quality for name, (quality, *_) in told(state).items()}
    assert qualities["both"] == qualities["right"]
    assert Fraction(qualities["left"]) > Fraction(qualities["both"])


def test_a_gpu_that_the_node_does_not_report_gives_no_target() -> None:
    assert plan(node(gpu_pod(gpus=(GpuUuid("GPU-9"),)))).changes == ()


def test_the_gpu_that_a_container_uses_replaces_the_one_that_was_meant() -> None:
    chat = gpu_pod(grant=target("1.000", 10240))
    there = on_node(replace(chat, gpus=(GpuUuid("GPU-1"),)), 10240)
    state = replace(node(chat), report=report(there, usable=(12 * GIB, 12 * GIB)))
    assert plan(state).changes == (PodTarget(pod=chat, gpus=(GpuUuid("GPU-1"),)),)
    assert plan(state).changes[0].annotations == {"arbiter.infernum.io/gpus": "GPU-1"}


def test_a_start_that_waits_on_more_gpus_than_were_meant_gets_room_on_all_of_them() -> None:
    neighbour = posters(grant=target("1.000", 6144), gpus=(GpuUuid("GPU-1"),))
    chat = gpu_pod()
    waits = on_node(chat, 0, state=GrantState.GATED, granted=None, gpus=["GPU-0", "GPU-1"])
    state = replace(
        node(chat, neighbour),
        report=report(waits, on_node(neighbour, 6144), usable=(12 * GIB, 8 * GIB)),
    )
    changed = {change.pod.name: change for change in plan(state).changes}
    assert changed["chat-0"].gpus == (GpuUuid("GPU-0"), GpuUuid("GPU-1"))
    assert changed["posters-0"].grant is not None
    assert changed["posters-0"].grant.vram < 6144 << 20


def test_slices_of_a_gpu_that_a_container_does_not_use_ask_for_nothing_there() -> None:
    chat = gpu_pod(grant=target("1.000", 10240))
    slices = tuple(
        SliceCount(namespace="team-a", pod="chat-0", container="main", gpu=gpu, slices=2) for gpu in ("GPU-0", "GPU-1")
    )
    state = replace(node(chat), report=report(on_node(chat, 10240), usable=(12 * GIB, 12 * GIB), slices=slices))
    assert plan(state).changes == ()


def test_without_a_former_state_the_reason_says_how_things_stand() -> None:
    chat = gpu_pod(grant=target("1.000", 10240))
    shared = node(chat, posters(grant=target("0.493", 3028)))
    assert reasons(shared) == ["shares gpu-1/0 with team-b/posters (Background)"]


def test_who_finished_is_still_called_by_its_allocation_when_its_bytes_are_free() -> None:
    chat, image = gpu_pod(grant=target("0.600", 6144)), posters(finished=True)
    before = node(chat, image, grants=(on_node(image, 6144, state=GrantState.HELD),))
    assert reasons(node(chat, image), before) == ["team-b/posters (Background) left gpu-1/0"]


def test_other_gpus_than_those_bound_are_the_reason() -> None:
    chat, image = gpu_pod(grant=target("1.000", 10240)), posters(grant=target("1.000", 6144), gpus=(GpuUuid("GPU-1"),))
    before = node(chat, image, usable=(12 * GIB, 12 * GIB))
    after = node(chat, replace(image, gpus=(GpuUuid("GPU-0"),)), usable=(12 * GIB, 12 * GIB))
    assert reasons(after, before) == ["team-b/posters (Background) joined gpu-1/0", "its container uses gpu-1/0"]
