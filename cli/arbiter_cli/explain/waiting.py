"""Why a pod has no GPU yet, and what would let it in. Pure: a snapshot in, an explanation out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from arbiter.demand import Demand
from arbiter.ids import PodUid
from arbiter.placement import NodeRoom, fits
from arbiter.units import format_bytes
from arbiter.workload import Priority
from arbiter_cli.explain.events import Happening
from arbiter_cli.explain.scene import names
from arbiter_cli.kinds import TimedPod
from arbiter_cli.printing import age
from arbiter_cli.snapshot import Snapshot
from arbiter_kube.api import SCHEDULER_NAME
from arbiter_kube.api.durations import format_duration
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.node import NodeState
from arbiter_operator.placeable import Prospects
from arbiter_operator.places import Queued, is_nominated
from arbiter_operator.preemption import preemption
from arbiter_operator.waiting import needs

_MOST_ENDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WayIn:
    """A change that would let the pod in, and what it and its neighbours would get then."""

    change: str
    then: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingExplanation:
    """The answer for a pod without a node; sizes in bytes per GPU, `waits` in seconds."""

    pod: str
    headline: str
    why: tuple[str, ...]
    waits: float
    floor: int
    full: int
    shortage: str
    ways: tuple[WayIn, ...]
    events: tuple[Happening, ...] = ()


def explain_waiting(
    snapshot: Snapshot, pod: TimedPod, seen: GpuPod, *, events: tuple[Happening, ...] = ()
) -> WaitingExplanation:
    """Why the pod waits."""
    known = next((one for one in snapshot.queue if one.wait.pod.uid == seen.uid), None)
    waits = max(0.0, snapshot.at - seen.created_at)
    why: tuple[str, ...]
    ways: tuple[WayIn, ...] = ()
    if known is None:
        headline, why = _unseen(pod, waits), (f"It {needs(seen.demand)}.",)
    elif known.shortage:
        headline = f"Waits for {age(waits)}: {known.shortage}."
        why, ways = _rules(snapshot, known), tuple(_ways_in(snapshot, known))
    else:
        headline = f"Has waited for {age(waits)}, and there is room now: arbiter-scheduler is asked again every 5s."
        why = (f"What kube-scheduler says: {_scheduler_says(pod)}",)
    return WaitingExplanation(
        pod=seen.key,
        headline=headline,
        why=why,
        waits=waits,
        floor=seen.demand.floor,
        full=seen.demand.full,
        shortage="" if known is None else known.shortage,
        ways=ways,
        events=events,
    )


def _unseen(pod: TimedPod, waits: float) -> str:
    if pod.spec.scheduler_name != SCHEDULER_NAME:
        return (
            f"Waits for scheduler {pod.spec.scheduler_name}, which knows nothing of GPUs: "
            f"leave schedulerName out of its template and make it anew."
        )
    return f"{SCHEDULER_NAME} has not looked at it for {age(waits)}; if it lasts: arbiter doctor."


def _scheduler_says(pod: TimedPod) -> str:
    conditions = (condition for condition in pod.status.conditions if condition.type == "PodScheduled")
    return next((condition.message for condition in conditions if condition.message), "nothing.")


def _rules(snapshot: Snapshot, known: Queued) -> tuple[str, ...]:
    """How long it may wait, and for whose sake."""
    wait, pod = known.wait, known.wait.pod
    late = snapshot.at >= wait.times_out_at
    patience = "is over; it stays queued" if late else "then it is told so, and stays queued"
    lines = [f"Timeout {format_duration(wait.timeout)}: {patience}."]
    policy = snapshot.cluster.default_policy
    if policy is not None and policy.spec.preemption is False:
        lines.append("Nobody is evicted for it: policy default has preemption off.")
    elif is_nominated(pod, snapshot.at) and pod.nomination is not None:
        lines.append(f"Others were evicted for it: room on {pod.nomination.node} is kept for it.")
    elif (evicts := _preempted(pod, known)) is not None:
        lines.append(f"{pod.demand.priority.value} may preempt: the operator {evicts} for it.")
    else:
        lines.append(f"{pod.demand.priority.value} may preempt nobody here: that takes members two levels below it.")
    return tuple(lines)


def _preempted(pod: GpuPod, known: Queued) -> str | None:
    """Who would be evicted for it, and where it would go."""
    plan = preemption(pod, known.wanted, known.places)
    if plan is None:
        return None
    state = next(place.state for place in known.places if place.state.name == plan.node)
    called = names(state)
    victims = ", ".join(f"{called[victim.uid]} ({victim.demand.priority.value})" for victim in plan.victims)
    return f"evicts {victims} from {', '.join(state.label(gpu) for gpu in plan.gpus)}"


def _ways_in(snapshot: Snapshot, known: Queued) -> Iterator[WayIn]:
    yield from _ends(known)
    yield from _smaller_floor(known)
    yield from _promotions(snapshot, known)


def _ends(known: Queued) -> Iterator[WayIn]:
    """Neighbours each of whose end would be enough, the least important first."""
    demand = known.wait.pod.demand
    enough = [
        (place, uid)
        for place in known.places
        for uid in {member.uid for gpu in place.room.gpus for member in gpu.members}
        if fits(place.without({uid}), demand)
    ]
    enough.sort(key=lambda found: (found[0].state.seats[found[1]].member.drop_order, found[0].state.name))
    for place, uid in enough[:_MOST_ENDS]:
        seat = place.state.seats[uid]
        level = "" if seat.priority is None else f" ({seat.priority.value})"
        then = _prospect(demand, [(_left(place.state, uid), place.without({uid}))])
        yield WayIn(change=f"{names(place.state)[uid]}{level} ends", then=then)


def _left(state: NodeState, uid: PodUid) -> NodeState:
    """The node without one of its pods."""
    grants = [grant for grant in state.report.grants if grant.pod_uid != uid]
    return replace(
        state,
        pods=tuple(pod for pod in state.pods if pod.uid != uid),
        report=state.report.model_copy(update={"grants": grants}),
    )


def _smaller_floor(known: Queued) -> Iterator[WayIn]:
    demand = known.wait.pod.demand
    places = [place for place in known.places if place.has_idle(known.wanted)]
    free = max((_largest(place.room, demand.gpu_count) for place in places), default=0)
    if not 0 < free < demand.floor or demand.levels:
        return
    smaller = replace(demand, floor=free) if not demand.is_fixed else replace(demand, floor=free, full=free)
    then = _prospect(smaller, [(place.state, place.room) for place in places])
    what = "vram.full" if demand.is_fixed else "vram.floor"
    yield WayIn(change=f"{what} {format_bytes(free)}", then=then)


def _largest(room: NodeRoom, count: int) -> int:
    """The largest floor that so many GPUs of the node have room for."""
    floors = sorted((gpu.largest_floor(unit=room.unit) for gpu in room.gpus), reverse=True)
    return floors[count - 1] if len(floors) >= count else 0


def _promotions(snapshot: Snapshot, known: Queued) -> Iterator[WayIn]:
    """The least priority at which others would be evicted for it."""
    pod, policy = known.wait.pod, snapshot.cluster.default_policy
    if policy is not None and policy.spec.preemption is False:
        return
    for priority in Priority:
        if priority <= pod.demand.priority:
            continue
        frozen = replace(pod.frozen, demand=replace(pod.demand, priority=priority))
        evicts = _preempted(replace(pod, frozen=frozen), known)
        if evicts is not None:
            yield WayIn(change=f"priority {priority.value}", then=evicts)
            return


def _prospect(demand: Demand, nodes: Iterable[tuple[NodeState, NodeRoom]]) -> str:
    prospects = Prospects()
    prospects.update({state.name: (state, room) for state, room in nodes})
    return prospects.of(demand).message
