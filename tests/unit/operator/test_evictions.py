from typing import Any

from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.units import GIB, MIB
from arbiter_kube.api.gpunode import GpuNodeStatus, GrantState
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.evictions import Cause, Trouble, evictions, next_at, troubles
from arbiter_operator.node import NodeState
from tests.unit.operator.builders import GPU, demand, gpu_pod, node, on_node

CROWDED, LOST = (GPU, Trouble.CROWDED), (GPU, Trouble.LOST)


def pod(name: str, priority: str = "Normal", *, floor: int = 4, **more: Any) -> GpuPod:
    return gpu_pod(name, allocation=name, of=demand(priority=priority, full=12 * GIB, floor=floor * GIB), **more)


def holding(who: GpuPod, gib: int, state: GrantState = GrantState.OVERDUE) -> Any:
    return on_node(who, gib * 1024, state=state)


def gated(who: GpuPod) -> Any:
    return on_node(who, 0, state=GrantState.GATED, granted=None, applied=None, waiting=True)


def leaving(state: NodeState, *, now: float = 0.0, **more: Any) -> list[tuple[str, Cause]]:
    since = dict.fromkeys(troubles(state, now=now), 0.0)
    return [(one.pod.name, one.cause) for one in evictions(state, now=now, since=since, **more)]


SLOW, NEW = pod("slow"), pod("new")
STUCK = node(SLOW, NEW, grants=(holding(SLOW, 10), gated(NEW)))


def test_a_holder_of_bytes_that_a_floor_waits_for_leaves_at_once() -> None:
    assert troubles(STUCK, now=0.0) == {CROWDED}
    assert leaving(STUCK) == [("slow", Cause.OVERDUE)]
    (eviction,) = evictions(STUCK, now=0.0, since={CROWDED: 0.0})
    assert eviction.message == "it still holds 10Gi on gpu-1/0 after its grace, and team-a/new waits for its floor"


def test_one_who_is_within_its_grace_stays() -> None:
    state = node(SLOW, NEW, grants=(holding(SLOW, 10, GrantState.MOVABLE), gated(NEW)))
    assert leaving(state) == []


def test_an_overdue_one_that_only_delays_a_surplus_stays_unless_the_policy_says_otherwise() -> None:
    other = pod("other")
    grants = (holding(SLOW, 6), holding(other, 6, GrantState.MOVABLE))
    assert leaving(node(SLOW, other, grants=grants)) == []
    strict = node(SLOW, other, grants=grants, policy=Policy(evict_overdue=True))
    assert leaving(strict) == [("slow", Cause.OVERDUE)]


def test_the_fewest_overdue_holders_leave_whatever_their_priority() -> None:
    small, large = pod("small", "Background", floor=1), pod("large", "Critical", floor=1)
    state = node(small, large, NEW, grants=(holding(small, 4), holding(large, 7), gated(NEW)))
    assert leaving(state) == [("large", Cause.OVERDUE)]


def test_of_too_many_floors_the_lowest_and_newest_leave_after_the_grace() -> None:
    old, young = pod("old", "Low", floor=5, bound_at=1.0), pod("young", "Low", floor=5, bound_at=2.0)
    high = pod("high", "High", floor=5)
    state = node(old, young, high, grants=(holding(old, 5, GrantState.MOVABLE), gated(young), gated(high)))
    assert leaving(state, now=29.9) == []
    assert leaving(state, now=30.0) == [("young", Cause.OVERCOMMITTED)]
    assert leaving(state, now=30.0, spared={PodUid("uid-young")}) == [("old", Cause.OVERCOMMITTED)]


def test_a_pod_that_leaves_counts_no_more_until_it_is_late() -> None:
    gone = pod("gone", floor=10, terminating=True)
    state = node(gone, NEW, grants=(holding(gone, 10), gated(NEW)), ending={gone.uid: 100.0})
    assert troubles(state, now=159.9) == set()
    assert troubles(state, now=160.0) == {CROWDED}
    assert next_at(state, since={}) == 160.0
    assert evictions(state, now=189.9, since={CROWDED: 160.0}) == (), "nobody is evicted twice"
    (eviction,) = evictions(state, now=190.0, since={CROWDED: 160.0})
    assert (eviction.pod.name, eviction.cause) == ("new", Cause.OVERCOMMITTED), "at last the newcomer itself"


def taking(used: int) -> dict[str, Any]:
    """What its node says of `slow`, which may hold 6 GiB and uses so many MiB."""
    grant = on_node(SLOW, 6144, state=GrantState.MOVABLE)
    return {"grants": (grant.model_copy(update={"measured": used * MIB}),)}


STRICT = Policy(evict_overdue=True)
TAKING = (SLOW.uid, Trouble.ABOVE_GRANT)


def test_one_that_takes_others_memory_leaves_after_the_grace_where_the_policy_says_so() -> None:
    state = node(SLOW, **taking(7168), policy=STRICT)
    assert troubles(state, now=0.0) == {TAKING}
    assert next_at(state, since={TAKING: 5.0}) == 35.0
    assert leaving(state, now=29.9) == []
    assert leaving(state, now=30.0) == [("slow", Cause.ABOVE_GRANT)]
    assert leaving(state, now=30.0, spared={SLOW.uid}) == []
    (eviction,) = evictions(state, now=30.0, since={TAKING: 0.0})
    assert eviction.message == "it goes on using 7168Mi on gpu-1/0 and may hold 6144Mi"


def test_one_that_takes_others_memory_stays_unless_the_policy_says_otherwise() -> None:
    assert leaving(node(SLOW, **taking(7168)), now=1000.0) == []


def test_what_a_measurement_may_be_wrong_by_is_no_offence() -> None:
    assert troubles(node(SLOW, **taking(6144 + 64), policy=STRICT), now=0.0) == set()
    assert troubles(node(SLOW, **taking(6144 + 65), policy=STRICT), now=0.0) == {TAKING}


def test_pods_of_a_lost_gpu_leave_after_a_while() -> None:
    state = node(SLOW)
    report = state.report.model_dump(by_alias=True)
    report["gpus"][0] |= {"healthy": False, "reason": "XID 79"}
    lost = node(SLOW)
    lost = NodeState(name=lost.name, report=GpuNodeStatus.model_validate(report), pods=(SLOW,))
    assert troubles(lost, now=0.0) == {LOST}
    assert leaving(lost, now=59.9) == []
    assert leaving(lost, now=60.0) == [("slow", Cause.GPU_LOST)]
    (eviction,) = evictions(lost, now=60.0, since={LOST: 0.0})
    assert eviction.message == "gpu-1/0 is lost: XID 79"
    assert next_at(lost, since={LOST: 5.0, (GpuUuid("elsewhere"), Trouble.LOST): 1.0}) == 65.0
