"""Whom a node's GPUs can keep no longer: holders of others' bytes, too many floors, GPUs that are lost. Pure.

One rule for each GPU: where what the members that stay keep in any case is more than it has, and a floor waits, the
fewest overdue holders leave at once, whatever their priority, since bytes above one's floor are lent. Where that is not
enough the lowest priorities leave, newest first, once the grace is over. Bytes of others' that nobody waits for are the
policy's business: it may evict those who do not give them back, and those who took them.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from arbiter.ids import GpuUuid, PodUid
from arbiter.transitions.confirmation import TOLERANCE
from arbiter.units import format_bytes, format_mib
from arbiter_kube.api.gpunode import GrantState
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.node import LEAVING_SLACK, NodeState, Seat


class Cause(StrEnum):
    """Why a pod is evicted."""

    OVERDUE = "ShrinkOverdue"
    ABOVE_GRANT = "MeasuredAboveGrant"
    OVERCOMMITTED = "Overcommitted"
    GPU_LOST = "GpuLost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """A pod that has to leave, and the sentence that says why."""

    pod: GpuPod
    cause: Cause
    message: str


class Trouble(StrEnum):
    """What a GPU or a pod may be in, and is given time for."""

    CROWDED = "crowded"
    LOST = "lost"
    ABOVE_GRANT = "above its grant"


Found = tuple[GpuUuid | PodUid, Trouble]

Since = Mapping[Found, float]
"""Since when, in seconds since the epoch, a GPU or a pod has been in a trouble."""


def troubles(state: NodeState, *, now: float) -> set[Found]:
    """What the node's GPUs and pods are in right now."""
    lost: set[Found] = {(GpuUuid(gpu.uuid), Trouble.LOST) for gpu in state.report.gpus if not gpu.healthy}
    crowded = {(gpu, Trouble.CROWDED) for gpu in state.capacities if _is_crowded(gpu, state, now)}
    above = {(uid, Trouble.ABOVE_GRANT) for uid, seat in state.seats.items() if _is_above_grant(seat)}
    return lost | crowded | (above if state.policy.evict_overdue else set())


def evictions(state: NodeState, *, now: float, since: Since, spared: Container[PodUid] = ()) -> tuple[Eviction, ...]:
    """Who has to leave now; nobody twice, and nobody who is leaving already.

    `spared` may not be evicted: a PodDisruptionBudget protects them, so the next ones go.
    """
    found: dict[PodUid, Eviction] = {}
    for gpu in sorted(state.capacities):
        here = [seat for seat in state.seats.values() if gpu in seat.member.gpus]
        may_go = [seat for seat in here if seat.pod and not seat.pod.terminating and seat.pod.uid not in spared]
        for eviction in _on_gpu(gpu, may_go, state, now, since):
            found.setdefault(eviction.pod.uid, eviction)
    return tuple(found.values())


def next_at(state: NodeState, *, since: Since) -> float | None:
    """When the time that some trouble is given will be over."""
    known = state.capacities.keys() | state.seats.keys()
    moments = (begun + _patience(state, trouble) for (what, trouble), begun in since.items() if what in known)
    ends = (ends_at + LEAVING_SLACK for ends_at in state.ending.values())
    return min((*moments, *ends), default=None)


def _patience(state: NodeState, trouble: Trouble) -> float:
    return state.policy.gpu_lost_after if trouble is Trouble.LOST else state.policy.shrink_grace


def _on_gpu(gpu: GpuUuid, may_go: Sequence[Seat], state: NodeState, now: float, since: Since) -> Iterable[Eviction]:
    where = state.label(gpu)
    lost, crowded = since.get((gpu, Trouble.LOST)), since.get((gpu, Trouble.CROWDED))
    if lost is not None and now >= lost + _patience(state, Trouble.LOST):
        reason = next(known.reason for known in state.report.gpus if known.uuid == gpu) or "it is unhealthy"
        yield from (_eviction(seat, Cause.GPU_LOST, f"{where} is lost: {reason}") for seat in may_go)
        return
    overdue = [seat for seat in may_go if seat.grant is not None and seat.grant.state is GrantState.OVERDUE]
    if state.policy.evict_overdue:
        yield from (_eviction(seat, Cause.OVERDUE, _holding(seat, where)) for seat in overdue)
    taking = ((since.get((seat.member.uid, Trouble.ABOVE_GRANT)), seat) for seat in may_go)
    for begun, seat in taking:
        if begun is not None and now >= begun + _patience(state, Trouble.ABOVE_GRANT):
            yield _eviction(seat, Cause.ABOVE_GRANT, _using(seat, where))
    if crowded is None:
        return

    def suffices(gone: Sequence[Seat]) -> bool:
        return _kept(gpu, state, now, gone={seat.member.uid for seat in gone}) <= state.capacities[gpu]

    largest_first = sorted(overdue, key=lambda seat: (-_bytes(seat), seat.member.uid))
    if (fewest := _first_that_suffice(largest_first, suffices)) is not None:
        waits = f"{_waiting(gpu, state)} waits for its floor"
        yield from (_eviction(seat, Cause.OVERDUE, f"{_holding(seat, where)}, and {waits}") for seat in fewest)
    elif now >= crowded + _patience(state, Trouble.CROWDED):
        lowest_first = sorted(may_go, key=_lowest_then_newest)
        too_many = f"{where} has {format_bytes(state.capacities[gpu])}, less than those on it keep in any case"
        leave = _first_that_suffice(lowest_first, suffices) or lowest_first
        yield from (_eviction(seat, Cause.OVERCOMMITTED, too_many) for seat in leave)


def _is_crowded(gpu: GpuUuid, state: NodeState, now: float) -> bool:
    """Whether a floor waits for bytes that nobody will give back."""
    here = [seat for seat in state.seats.values() if gpu in seat.member.gpus]
    waits = any(seat.grant is not None and seat.grant.waiting for seat in here)
    return waits and _kept(gpu, state, now) > state.capacities[gpu]


def _is_above_grant(seat: Seat) -> bool:
    """Whether its container was seen to use more than it may hold, as its node judges it."""
    grant = seat.grant
    return grant is not None and grant.measured is not None and grant.measured > grant.held + TOLERANCE


def _kept(gpu: GpuUuid, state: NodeState, now: float, *, gone: Container[PodUid] = ()) -> int:
    """Bytes that those who stay keep whatever the others want."""
    stay = (seat for uid, seat in state.seats.items() if gpu in seat.member.gpus and uid not in gone)
    return sum(_bytes(seat) for seat in stay if not state.is_leaving(seat.member.uid, now=now))


def _bytes(seat: Seat) -> int:
    """The floor of who gives way, what the others hold."""
    return max(seat.member.demand.floor, seat.member.held or 0)


def _first_that_suffice(seats: Sequence[Seat], suffices: Callable[[Sequence[Seat]], bool]) -> Sequence[Seat] | None:
    """The shortest beginning of the list that is enough; None where all of it is not."""
    return next((seats[:count] for count in range(1, len(seats) + 1) if suffices(seats[:count])), None)


def _lowest_then_newest(seat: Seat) -> tuple[int, float, PodUid]:
    since = 0.0 if seat.pod is None else seat.pod.bound_at or seat.pod.created_at
    return seat.member.demand.priority.level, -since, seat.member.uid


def _holding(seat: Seat, where: str) -> str:
    held = 0 if seat.grant is None else seat.grant.held
    return f"it still holds {format_bytes(held)} on {where} after its grace"


def _using(seat: Seat, where: str) -> str:
    grant = seat.grant
    measured, held = (0, 0) if grant is None else (grant.measured or 0, grant.held)
    return f"it goes on using {format_mib(measured)} on {where} and may hold {format_mib(held)}"


def _waiting(gpu: GpuUuid, state: NodeState) -> str:
    here = (seat for seat in state.seats.values() if gpu in seat.member.gpus)
    return next(seat.who for seat in here if seat.grant is not None and seat.grant.waiting)


def _eviction(seat: Seat, cause: Cause, message: str) -> Eviction:
    if seat.pod is None:
        raise ValueError(f"{seat.who} has no pod to evict.")
    return Eviction(pod=seat.pod, cause=cause, message=message)
