from typing import Any

import pytest

from arbiter.ids import GpuUuid
from arbiter.placement import fits
from arbiter.units import GIB, MIB
from arbiter_kube.api.annotations import WAKE
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.gpunode import GrantState
from arbiter_kube.api.objects import Condition, ObjectMeta, Pod, PodStatus
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.qualitypolicy import QualityPolicySpec
from arbiter_operator.node import NodeState, room
from arbiter_operator.waiting import Waiting, shortage, waiting
from tests.unit.operator.builders import allocation, demand, gpu_pod, node, on_node, posters

BIG = gpu_pod("big", node=None, of=demand(full=12 * GIB, floor=10 * GIB))
REFUSED = (Condition(type="PodScheduled", status="False", reason="Unschedulable"),)


def seen(
    pod: GpuPod = BIG,
    *,
    conditions: tuple[Condition, ...] = REFUSED,
    wake: str | None = None,
    of: GpuAllocation | None = None,
    policy: QualityPolicySpec | None = None,
) -> Waiting | None:
    annotations = {} if wake is None else {WAKE: wake}
    raw = Pod(metadata=ObjectMeta(annotations=annotations), status=PodStatus(conditions=conditions))
    return waiting(raw, pod, allocation=of, policy=policy)


def missing(*states: NodeState, pod: GpuPod = BIG) -> str:
    labels = {GpuUuid(gpu): state.label(gpu) for state in states for gpu in state.capacities}
    return shortage(pod.demand, [room(state, unit=GIB) for state in states], labels=labels, name=str)


def test_a_pod_that_kube_scheduler_refused_waits() -> None:
    assert seen() == Waiting(pod=BIG, since=0.0, woken_at=None, timeout=45.0)


NOT_WAITING: dict[str, Any] = {
    "one that is bound": {"pod": gpu_pod()},
    "one that nobody tried to place yet": {"conditions": ()},
    "one that a queue holds back": {
        "conditions": (Condition(type="PodScheduled", status="False", reason="SchedulingGated"),)
    },
    "one that is over": {"pod": gpu_pod("big", node=None, finished=True)},
    "one that is leaving": {"pod": gpu_pod("big", node=None, terminating=True)},
}


@pytest.mark.parametrize("how", NOT_WAITING.values(), ids=NOT_WAITING)
def test_these_do_not_wait(how: dict[str, Any]) -> None:
    assert seen(**how) is None


TIMEOUTS = {
    "by type and priority": (None, None, 45.0),
    "as the allocation says": (allocation(timeout="10s"), None, 10.0),
    "not at all": (allocation(noWait=True), QualityPolicySpec(allocation_timeout="1m"), 0.0),
    "by the policy and the priority": (allocation(), QualityPolicySpec(allocation_timeout="1m"), 90.0),
    "by the policy for a pod without allocation": (None, QualityPolicySpec(allocation_timeout="1m"), 90.0),
}


@pytest.mark.parametrize(("of", "policy", "seconds"), TIMEOUTS.values(), ids=TIMEOUTS)
def test_how_long_a_pod_may_wait(of: GpuAllocation | None, policy: QualityPolicySpec | None, seconds: float) -> None:
    wait = seen(of=of, policy=policy)
    assert wait is not None
    assert wait.times_out_at == seconds


def test_a_pod_is_woken_again_after_the_interval() -> None:
    wait = seen(wake="100.000")
    assert wait is not None
    assert (wait.is_due(104.9, interval=5.0), wait.is_due(105.0, interval=5.0)) == (False, True)


def test_a_wake_by_a_clock_ahead_of_ours_holds_back_none() -> None:
    wait = seen(wake="100.000")
    assert wait is not None
    assert wait.is_due(99.0, interval=5.0)


def test_somebody_elses_text_in_the_annotation_counts_as_never_woken() -> None:
    wait = seen(wake="soon")
    assert wait is not None
    assert wait.is_due(0.0, interval=5.0)


def test_the_best_gpu_is_named_and_whose_end_would_help() -> None:
    assert missing(node(gpu_pod())) == "needs 10Gi on one GPU; gpu-1/0 has 8Gi, and 12Gi once uid-chat-0 ends"


def test_the_lowest_priority_whose_end_suffices_is_named() -> None:
    critical = gpu_pod("critical", of=demand(priority="Critical", full=6 * GIB, floor=6 * GIB))
    low = gpu_pod("low", of=demand(priority="Low", full=5 * GIB, floor=5 * GIB))
    small = gpu_pod("small", of=demand(priority="Background", full=GIB, floor=GIB))
    crowded = node(critical, low, small, usable=(18 * GIB,))
    assert missing(crowded) == "needs 10Gi on one GPU; gpu-1/0 has 6Gi, and 11Gi once uid-low ends"


def test_where_no_single_end_suffices_the_largest_is_named() -> None:
    half = gpu_pod("half", of=demand(full=5 * GIB, floor=5 * GIB))
    rest = gpu_pod("rest", of=demand(full=6 * GIB, floor=6 * GIB))
    assert missing(node(half, rest)) == "needs 10Gi on one GPU; gpu-1/0 has 1Gi, and 7Gi once uid-rest ends"


def test_a_floor_beyond_every_gpu_is_said_as_such() -> None:
    assert missing(node(usable=(6 * GIB,))) == "needs 10Gi on one GPU; the largest, gpu-1/0, has 6Gi in all"


def test_without_any_gpu_that_is_said() -> None:
    assert missing() == "needs 10Gi on one GPU; no node that takes it reports a healthy GPU"


def test_several_gpus_are_counted() -> None:
    two = gpu_pod("two", node=None, of=demand(full=12 * GIB, floor=10 * GIB, gpu_count=2))
    assert missing(node(gpu_pod()), pod=two) == "needs 10Gi on each of 2 GPUs of a node; gpu-1 has room on 0 of 1"
    roomy = node(gpu_pod(), usable=(12 * GIB, 24 * GIB))
    assert missing(roomy, pod=two) == "needs 10Gi on each of 2 GPUs of a node; gpu-1 has room on 1 of 2"


def test_room_is_counted_in_whole_slices() -> None:
    small = gpu_pod("small", of=demand(full=6 * GIB, floor=1843 * MIB))
    assert missing(node(small, usable=(int(11.5 * GIB),))) == (
        "needs 10Gi on one GPU; gpu-1/0 has 9Gi, and 11Gi once uid-small ends"
    )


def test_a_gpu_whose_last_slice_is_cut_off_is_smaller_than_its_bytes() -> None:
    assert missing(node(usable=(10 * GIB - MIB,))) == "needs 10Gi on one GPU; the largest, gpu-1/0, has 9Gi in all"
    odd = gpu_pod("odd", node=None, of=demand(full=12 * GIB, floor=10 * GIB - 2 * MIB))
    assert not fits(room(node(usable=(10 * GIB - MIB,)), unit=GIB), odd.demand)
    assert missing(node(usable=(10 * GIB - MIB,)), pod=odd) == (
        "needs 10238Mi on one GPU; the largest, gpu-1/0, has 9Gi in all"
    )


def test_bytes_above_the_floor_of_who_can_move_are_no_obstacle() -> None:
    chat = gpu_pod(of=demand(floor=2 * GIB))
    movable = node(chat, grants=(on_node(chat, 10240),))
    assert fits(room(movable, unit=GIB), BIG.demand)


@pytest.mark.parametrize("state", [GrantState.HELD, GrantState.OVERDUE, GrantState.STARTING])
def test_bytes_of_who_has_not_shown_that_it_moves_are_an_obstacle(state: GrantState) -> None:
    chat = gpu_pod(of=demand(floor=2 * GIB))
    assert not fits(room(node(chat, grants=(on_node(chat, 10240, state=state),)), unit=GIB), BIG.demand)


def test_bytes_that_a_finished_pod_may_still_hold_are_an_obstacle() -> None:
    image = posters(finished=True)
    holding = node(image, grants=(on_node(image, 3028, state=GrantState.HELD),))
    assert not fits(room(holding, unit=GIB), BIG.demand)
    assert fits(room(node(image), unit=GIB), BIG.demand)
