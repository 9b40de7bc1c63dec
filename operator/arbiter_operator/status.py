"""What a GpuAllocation's status says, from its pods and what their nodes report of them. Pure.

Sentences live in `conditions.py`; here are phases, figures and the list of grants.
"""

from collections.abc import Sequence
from datetime import datetime

from arbiter.demand import Demand, DemandDefaults, InvalidDemandError
from arbiter.units import format_bytes, format_mib
from arbiter_kube.api.gpuallocation import (
    MAX_GRANTS,
    GpuAllocation,
    GpuAllocationStatus,
    GrantQuality,
    GrantSummary,
    GrantVram,
    Phase,
    ResolvedDemand,
)
from arbiter_kube.api.qualitypolicy import QualityPolicy, QualityPolicyStatus
from arbiter_operator.cluster import Reach
from arbiter_operator.conditions import conditions, policy_conditions, preempted_before
from arbiter_operator.demands import DemandChange, resolved
from arbiter_operator.placeable import Prospect
from arbiter_operator.view import PodView

_WORST_FIRST: tuple[Phase, ...] = ("Waiting", "Pending", "Reduced", "Running")


def allocation_status(
    allocation: GpuAllocation,
    pods: Sequence[PodView],
    *,
    edits: Sequence[DemandChange],
    defaults: DemandDefaults,
    prospect: Prospect | None = None,
    preempted: str | None = None,
    now: datetime,
) -> GpuAllocationStatus:
    """The status that the allocation should have; what did not change keeps its former times.

    `prospect`: what a pod would find, where there is none yet. `preempted`: who was just evicted for whom; it is told
    until a pod of the allocation has memory again.
    """
    demand = _demand(allocation, defaults)
    evicted = (
        None
        if any(view.is_placed and not view.pod.terminating for view in pods)
        else preempted or preempted_before(allocation)
    )
    granted = [view for view in pods if view.quality is not None]
    lowest = min((view.quality for view in granted if view.quality is not None), default=None)
    return GpuAllocationStatus(
        phase="Preempted" if evicted else min(map(phase, pods), key=_WORST_FIRST.index, default="Pending"),
        observed_generation=allocation.metadata.generation,
        pods=f"{sum(view.is_placed for view in pods)}/{len(pods)}",
        quality=None if lowest is None else float(lowest),
        resolved=None if isinstance(demand, InvalidDemandError) else _resolved(demand),
        grants=_grants(allocation, pods, now),
        conditions=conditions(
            allocation, pods, demand=demand, edits=edits, prospect=prospect, preempted=evicted, now=now
        ),
    )


def phase(view: PodView) -> Phase:
    """Where one pod stands."""
    if view.pod.node is None:
        return "Waiting" if view.waiting is not None else "Pending"
    if view.quality is None or not view.is_placed:
        return "Pending"
    return "Reduced" if view.quality < view.pod.demand.maximum else "Running"


def policy_status(policy: QualityPolicy, reach: Reach, *, now: datetime) -> QualityPolicyStatus:
    """The status that a policy should have: on how many nodes with GPUs it is in force, and why on no more."""
    return QualityPolicyStatus(
        nodes=reach.in_force,
        observed_generation=policy.metadata.generation,
        conditions=policy_conditions(policy, reach, now=now),
    )


def _demand(allocation: GpuAllocation, defaults: DemandDefaults) -> Demand | InvalidDemandError:
    try:
        return resolved(allocation, defaults=defaults)
    except InvalidDemandError as error:
        return error


def _resolved(demand: Demand) -> ResolvedDemand:
    return ResolvedDemand(
        full=format_bytes(demand.full),
        floor=format_bytes(demand.floor),
        minimum=float(demand.minimum),
        maximum=float(demand.maximum),
    )


def _grants(allocation: GpuAllocation, pods: Sequence[PodView], now: datetime) -> list[GrantSummary]:
    former = {grant.pod_uid: grant for grant in allocation.status.grants}
    placed = [view for view in pods if view.pod.node is not None]
    lowest = sorted(placed, key=lambda view: (view.quality is not None, view.quality or 0, view.pod.name))[:MAX_GRANTS]
    return [_summary(view, former.get(view.pod.uid), now) for view in lowest]


def _summary(view: PodView, former: GrantSummary | None, now: datetime) -> GrantSummary:
    pod, grant, told = view.pod, view.grant, view.pod.grant
    revision = told.revision if told is not None else None
    kept = former.since if former is not None and former.revision == revision else None
    return GrantSummary(
        pod_uid=pod.uid,
        pod=pod.name,
        node=pod.node or "",
        gpus=list(pod.gpus),
        quality=GrantQuality(
            target=float(told.quality) if told is not None else None,
            granted=grant.quality if grant is not None else None,
            applied=grant.quality if grant is not None and grant.applied == grant.granted else None,
        ),
        vram=GrantVram(
            target=_mib(told.vram if told is not None else None),
            granted=_mib(grant.granted if grant is not None else None),
            held=_mib(grant.held if grant is not None else None),
            measured=_mib(grant.measured if grant is not None else None),
        ),
        revision=revision,
        since=kept or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _mib(size: int | None) -> str | None:
    return None if size is None else format_mib(size)
