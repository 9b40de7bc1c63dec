"""Several pods at once: those of a GpuAllocation, of a Deployment or another maker. Pure: a snapshot in, answer out."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from arbiter.demand import Demand, InvalidDemandError, format_quality
from arbiter.units import format_bytes
from arbiter_cli.explain.events import Happening
from arbiter_cli.explain.pod import PodExplanation, explain_pod
from arbiter_cli.explain.scene import scene_of
from arbiter_cli.explain.sentences import standing_of
from arbiter_cli.explain.waiting import WaitingExplanation, explain_waiting
from arbiter_cli.kinds import TimedPod
from arbiter_cli.snapshot import Snapshot
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_operator.demands import resolved
from arbiter_operator.placeable import Prospects

_FINE = {"Accepted": "True", "Placed": "True", "QualityMet": "True", "Converged": "True"}
"""Conditions of an allocation that are worth a line unless they have this status."""

_WORTH_A_LINE = {"TimedOut": "True", "RestartNeeded": "True"}
"""Those that are worth a line if they have this one."""

Explanation = PodExplanation | WaitingExplanation


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRow:
    """One of the pods: where it is and what it has; `quality` is None where it waits or is held."""

    pod: str
    where: str
    quality: Fraction | None
    standing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The pods of something, the worst off of them explained. `problems` say what is wrong, and what to do."""

    name: str
    headline: str
    problems: tuple[str, ...] = ()
    pods: tuple[PodRow, ...] = ()
    worst: Explanation | None = None
    events: tuple[Happening, ...] = ()


def explain_one(snapshot: Snapshot, pod: TimedPod, *, events: tuple[Happening, ...] = ()) -> Explanation | None:
    """The explanation of a live pod with GPU memory; None for any other."""
    seen = snapshot.seen(pod)
    if seen is None or seen.finished:
        return None
    if seen.node is None:
        return explain_waiting(snapshot, pod, seen, events=events)
    state = snapshot.cluster.node_state(seen.node)
    return None if state is None else explain_pod(snapshot, pod, seen, state, events=events)


def explain_several(snapshot: Snapshot, pods: Iterable[TimedPod]) -> tuple[tuple[PodRow, ...], Explanation | None]:
    """A row for each of the pods with GPU memory, and the explanation of the one that is worst off."""
    rows = {row: pod for pod in pods if (row := _row(snapshot, pod)) is not None}
    worst = min(rows, key=_badness, default=None)
    explanation = None if worst is None else explain_one(snapshot, rows[worst])
    return tuple(sorted(rows, key=lambda row: row.pod)), explanation


def _badness(row: PodRow) -> tuple[bool, Fraction, str]:
    """Those that wait first, then by quality."""
    return row.where != "-", Fraction(1) if row.quality is None else row.quality, row.pod


def _row(snapshot: Snapshot, pod: TimedPod) -> PodRow | None:
    seen = snapshot.seen(pod)
    if seen is None or seen.finished:
        return None
    state = None if seen.node is None else snapshot.cluster.node_state(seen.node)
    seat = None if state is None else state.seats.get(seen.uid)
    if state is None or seat is None:
        return PodRow(pod=seen.key, where="-", quality=None, standing="Waiting")
    return PodRow(
        pod=seen.key,
        where=", ".join(state.label(gpu) for gpu in seat.member.gpus),
        quality=scene_of(state, asked=seat).quality(seen.uid),
        standing=standing_of(seen, seat).value,
    )


def explain_allocation(snapshot: Snapshot, allocation: GpuAllocation, *, events: tuple[Happening, ...] = ()) -> Group:
    """What the pods of an allocation have, and why the worst off of them has no more."""
    namespace, name = allocation.metadata.namespace, allocation.metadata.name
    pods = [
        pod
        for pod in snapshot.pods.values()
        if pod.metadata.namespace == namespace
        and (seen := snapshot.seen(pod)) is not None
        and seen.frozen.allocation == name
    ]
    rows, worst = explain_several(snapshot, pods)
    demand = _demand(snapshot, allocation)
    status, spec = allocation.status, allocation.spec
    phase = status.phase or "the operator has not looked at it yet: if that lasts, arbiter doctor"
    sizes = "" if demand is None else f", {_sizes(demand)}"
    return Group(
        name=f"{namespace}/{name}",
        headline=f"{spec.workload_type}, priority {spec.priority}{sizes}; pods {status.pods or '0/0'}; {phase}.",
        problems=(*_conditions(allocation), *_unused(snapshot, demand, rows)),
        pods=rows,
        worst=worst,
        events=events,
    )


def _demand(snapshot: Snapshot, allocation: GpuAllocation) -> Demand | None:
    try:
        return resolved(allocation, defaults=snapshot.cluster.demand_defaults)
    except InvalidDemandError:
        return None  # the condition Accepted has the sentence


def _sizes(demand: Demand) -> str:
    if demand.is_fixed:
        return f"fixed at {format_bytes(demand.full)}"
    floor = f"floor {format_bytes(demand.floor)} at {format_quality(demand.minimum)}"
    return f"full {format_bytes(demand.full)} at {format_quality(demand.maximum)}, {floor}"


def _conditions(allocation: GpuAllocation) -> list[str]:
    return [
        f"{condition.type} {condition.status} ({condition.reason}): {condition.message}."
        for condition in allocation.status.conditions
        if condition.status not in ("Unknown", _FINE.get(condition.type, condition.status))
        or condition.status == _WORTH_A_LINE.get(condition.type)
    ]


def _unused(snapshot: Snapshot, demand: Demand | None, rows: tuple[PodRow, ...]) -> list[str]:
    """What a first pod would find, worked out now."""
    if demand is None or rows:
        return []
    prospects = Prospects()
    prospects.update(
        {
            state.name: (state, snapshot.rooms.of(state))
            for node, state in snapshot.cluster.nodes_with_gpus()
            if node.is_ready and not node.spec.unschedulable
        }
    )
    return [f"A pod of it {prospects.of(demand).message}."]
