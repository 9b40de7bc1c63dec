from collections.abc import Mapping
from typing import Any

from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.units import GIB
from arbiter_kube.api.gpunode import GrantState
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.scheduling import Requests
from arbiter_operator.node import NodeState, room
from arbiter_operator.preemption import Place, Preemption, fits_soon, preemption
from tests.unit.operator.builders import demand, gpu_pod, node, on_node

NOTHING = Requests()


def holding(name: str, priority: str = "Background", *, floor: int = 6, **more: Any) -> GpuPod:
    """A pod that gives way no further than to `floor` GiB."""
    return gpu_pod(name, of=demand(priority=priority, full=10 * GIB, floor=floor * GIB), **more)


def waiting(priority: str = "High", *, floor: int = 10, gpu_count: int = 1) -> GpuPod:
    return gpu_pod(
        "big", node=None, of=demand(priority=priority, full=12 * GIB, floor=floor * GIB, gpu_count=gpu_count)
    )


def place(
    state: NodeState, *, idle: Requests = NOTHING, requests: Mapping[str, Requests] | None = None, now: float = 0.0
) -> Place:
    wanted = {PodUid(f"uid-{name}"): asked for name, asked in (requests or {}).items()}
    return Place(state=state, room=room(state, unit=GIB), idle=idle, requests=wanted, now=now)


def evicting(*names: str, node: str = "gpu-1", gpus: tuple[str, ...] = ("GPU-0",)) -> tuple[str, tuple[str, ...], Any]:
    return node, gpus, names


def decided(found: Preemption | None) -> Any:
    return (
        None
        if found is None
        else evicting(*(victim.name for victim in found.victims), node=found.node, gpus=tuple(found.gpus))
    )


def test_the_lower_one_makes_room() -> None:
    busy = place(node(holding("low"), holding("normal", "Normal", floor=2)))
    assert decided(preemption(waiting(), NOTHING, [busy])) == evicting("low")


def test_nobody_leaves_where_that_would_not_be_enough() -> None:
    busy = place(node(holding("low"), holding("normal", "Normal", floor=6)))
    assert preemption(waiting(), NOTHING, [busy]) is None


def test_nobody_leaves_for_one_level_more() -> None:
    assert preemption(waiting("Low"), NOTHING, [place(node(holding("low")))]) is None


def test_the_gpu_with_the_fewest_victims_is_cleared() -> None:
    second = (GpuUuid("GPU-1"),)
    busy = node(holding("a", floor=4), holding("b", floor=4), holding("c", gpus=second), usable=(12 * GIB,) * 2)
    assert decided(preemption(waiting(), NOTHING, [place(busy)])) == evicting("c", gpus=("GPU-1",))


def test_bytes_that_a_victim_still_holds_count_as_freed_with_it() -> None:
    slow = holding("slow", floor=1)
    busy = node(slow, grants=(on_node(slow, 11 * 1024, state=GrantState.OVERDUE),))
    assert decided(preemption(waiting(), NOTHING, [place(busy)])) == evicting("slow")


def test_a_protected_pod_stays() -> None:
    busy = place(node(holding("low")))
    assert preemption(waiting(), NOTHING, [busy], spared={PodUid("uid-low")}) is None


def test_those_who_leave_anyway_are_waited_for() -> None:
    leaving = holding("leaving", terminating=True)
    busy = place(node(leaving, holding("low", floor=1), ending={leaving.uid: 100.0}))
    assert fits_soon(waiting(), NOTHING, [busy])
    assert not fits_soon(waiting(floor=12), NOTHING, [busy])


def test_one_that_should_be_gone_for_a_minute_is_not_waited_for_and_another_leaves() -> None:
    stuck, low = holding("stuck", terminating=True), holding("low", gpus=(GpuUuid("GPU-1"),))
    state = node(stuck, low, usable=(12 * GIB,) * 2, ending={stuck.uid: 100.0})
    assert fits_soon(waiting(), NOTHING, [place(state, now=159.9)])
    late = place(state, now=160.0)
    assert not fits_soon(waiting(), NOTHING, [late])
    assert decided(preemption(waiting(), NOTHING, [late])) == evicting("low", gpus=("GPU-1",))


def test_a_container_of_a_pod_that_is_over_is_waited_for() -> None:
    over = holding("over", finished=True)
    assert fits_soon(waiting(), NOTHING, [place(node(over, grants=(on_node(over, 11 * 1024),)))])


def test_nobody_leaves_where_the_cpu_would_not_suffice() -> None:
    wanted, state = Requests(cpu=4000), node(holding("low"))
    for asked, answer in ((2000, None), (3000, evicting("low"))):
        busy = place(state, idle=Requests(cpu=1000), requests={"low": Requests(cpu=asked)})
        assert decided(preemption(waiting(), wanted, [busy])) == answer


def test_two_gpus_of_one_node_are_cleared_together() -> None:
    both = (GpuUuid("GPU-0"), GpuUuid("GPU-1"))
    wide = gpu_pod("wide", of=demand(priority="Low", floor=6 * GIB, gpu_count=2), gpus=both)
    busy = place(node(wide, usable=(12 * GIB,) * 2))
    found = preemption(waiting("Critical", gpu_count=2), NOTHING, [busy])
    assert decided(found) == evicting("wide", gpus=("GPU-0", "GPU-1"))
    assert preemption(waiting("Critical", gpu_count=2), NOTHING, [place(node(holding("low")))]) is None


def test_of_two_nodes_that_of_the_lower_victim_is_cleared() -> None:
    first, other = node(holding("low", "Low")), node(holding("background"))
    second = NodeState(name=NodeName("gpu-2"), report=other.report, pods=other.pods)
    assert decided(preemption(waiting(), NOTHING, [place(second), place(first)])) is not None
    assert decided(preemption(waiting("Critical"), NOTHING, [place(first), place(second)])) == evicting(
        "background", node="gpu-2"
    )
