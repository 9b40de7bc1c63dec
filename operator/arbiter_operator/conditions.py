"""The conditions of a GpuAllocation and of a QualityPolicy, with the sentences that `kubectl describe` shows. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from arbiter.demand import Demand, InvalidDemandError, format_quality
from arbiter.units import format_bytes, format_mib
from arbiter_kube.api.fields import Condition
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_operator.cluster import Reach
from arbiter_operator.demands import DemandChange
from arbiter_operator.placeable import Prospect
from arbiter_operator.reasons import enumerated
from arbiter_operator.view import PodView
from arbiter_operator.waiting import timeout_message


@dataclass(frozen=True, slots=True)
class _Finding:
    """A condition without its times."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


def conditions(
    allocation: GpuAllocation,
    pods: Sequence[PodView],
    *,
    demand: Demand | InvalidDemandError,
    edits: Sequence[DemandChange],
    prospect: Prospect | None,
    preempted: str | None,
    now: datetime,
) -> list[Condition]:
    """All of them, in a fixed order; lastTransitionTime is kept where the status did not change.

    `prospect`: what a pod would find, where there is none yet. `preempted`: which pod was evicted for whom, until one
    of the allocation has memory again.
    """
    former = {condition.type: condition for condition in allocation.status.conditions}
    findings = (
        _accepted(demand),
        _Finding("Placed", "False", "Preempted", preempted) if preempted else _placed(pods),
        _quality_met(pods),
        _converged(pods, former.get("Converged")),
        _timed_out(pods, now),
        _restart_needed(edits),
        *([] if prospect is None else [_placeable(prospect)]),
    )
    generation = allocation.metadata.generation
    return [_condition(finding, former.get(finding.type), generation=generation, now=now) for finding in findings]


def policy_conditions(policy: QualityPolicy, reach: Reach, *, now: datetime) -> list[Condition]:
    """Whether anybody follows the policy, and whom its nodes follow instead."""
    former = {condition.type: condition for condition in policy.status.conditions}
    finding = _in_force(policy, reach)
    return [_condition(finding, former.get(finding.type), generation=policy.metadata.generation, now=now)]


def _in_force(policy: QualityPolicy, reach: Reach) -> _Finding:
    if not reach.selected:
        return _Finding("InForce", "False", "NoNode", "selects no node that reports GPUs")
    rivals = ", ".join(_rival(other, policy) for other in sorted(reach.others, key=lambda other: other.metadata.name))
    if not reach.in_force:
        return _Finding("InForce", "False", "Outranked", f"the {_nodes(reach.selected)} that it selects {rivals}")
    rest = f"; the other {_nodes(reach.selected - reach.in_force)} that it selects {rivals}" if rivals else ""
    return _Finding("InForce", "True", "Followed", f"in force on {_nodes(reach.in_force)}{rest}")


def _rival(other: QualityPolicy, policy: QualityPolicy) -> str:
    name, weight = other.metadata.name, other.spec.weight
    why = f"weight {weight}" if weight != policy.spec.weight else f"weight {weight} too, and the first name"
    return f"follow {name} ({why})"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def preempted_before(allocation: GpuAllocation) -> str | None:
    """What its status says of an eviction."""
    return next((c.message for c in allocation.status.conditions if c.reason == "Preempted"), None)


def _condition(finding: _Finding, former: Condition | None, *, generation: int, now: datetime) -> Condition:
    since = former.last_transition_time if former is not None and former.status == finding.status else None
    return Condition(
        type=finding.type,
        status=finding.status,
        reason=finding.reason,
        message=finding.message,
        last_transition_time=since or now.replace(microsecond=0),
        observed_generation=generation,
    )


def _accepted(demand: Demand | InvalidDemandError) -> _Finding:
    if isinstance(demand, InvalidDemandError):
        return _Finding("Accepted", "False", "InvalidDemand", str(demand))
    sizes = f"full {format_bytes(demand.full)} at quality {format_quality(demand.maximum)}"
    if not demand.is_fixed:
        sizes += f", floor {format_bytes(demand.floor)} at {format_quality(demand.minimum)}"
    return _Finding("Accepted", "True", "Valid", f"{sizes}, on each GPU" if demand.gpu_count > 1 else sizes)


def _placed(pods: Sequence[PodView]) -> _Finding:
    if not pods:
        return _Finding("Placed", "False", "NoPods", "no pod names this allocation yet")
    unbound = [view for view in pods if view.pod.node is None]
    short = next((view for view in unbound if view.shortage), None)
    if short is not None:
        return _Finding("Placed", "False", "InsufficientMemory", f"{short.pod.name} {short.shortage}")
    if unbound:
        return _Finding("Placed", "False", "Scheduling", f"{_pods(unbound)} not scheduled yet")
    nodes = {view.pod.node for view in pods}
    where = pods[0].where if len(pods) == 1 else f"{len(nodes)} nodes" if len(nodes) > 1 else str(pods[0].pod.node)
    return _Finding("Placed", "True", "Placed", f"{_pods(pods)} on {where}")


def _quality_met(pods: Sequence[PodView]) -> _Finding:
    known = [(view.quality, view) for view in pods if view.quality is not None]
    if not known:
        return _Finding("QualityMet", "Unknown", "NoGrant", "no pod has memory yet")
    quality, lowest = min(known, key=lambda pair: (pair[0], pair[1].pod.name))
    demand = lowest.pod.demand
    shared = f"shares {lowest.where} with {enumerated(lowest.mates)}" if lowest.mates else f"is alone on {lowest.where}"
    who = "1 pod" if len(known) == 1 else f"the lowest of {len(known)} pods"
    message = (
        f"{format_quality(quality)} of {format_quality(demand.maximum)}, minimum {format_quality(demand.minimum)}: "
        f"{who} {shared}"
    )
    if quality < demand.minimum:
        return _Finding("QualityMet", "False", "InsufficientQuality", message)
    return _Finding("QualityMet", "True", "AboveMinimum", message)


def _converged(pods: Sequence[PodView], former: Condition | None) -> _Finding:
    bound = [view for view in pods if view.pod.node is not None]
    if not bound:
        return _Finding("Converged", "Unknown", "NoGrant", "no pod has memory yet")
    moving = next((view for view in bound if not view.is_converged), None)
    if moving is not None:
        return _Finding("Converged", "False", "Applying", _on_the_way(moving))
    if len(bound) > 1:
        return _Finding("Converged", "True", "Applied", f"{_pods(bound)} applied their targets")
    told = bound[0].pod.grant
    if told is None:
        return _Finding("Converged", "True", "Held", "its memory was set at its start and does not move")
    message = f"revision {told.revision} applied"
    if bound[0].applied_after is not None:
        message += f" {bound[0].applied_after:.2f}s after it was written"
    elif former is not None and former.message.startswith(f"{message} "):
        # Measured by the process before this one.
        message = former.message
    return _Finding("Converged", "True", "Applied", message)


def _on_the_way(view: PodView) -> str:
    told, grant = view.pod.grant, view.grant
    if told is None:
        return f"{view.pod.name} has no target yet"
    goal = f"{view.pod.name} goes to {told.quality} ({format_mib(told.vram)})"
    if grant is None or grant.granted is None:
        return f"{goal}; its node has granted nothing yet"
    return f"{goal}; granted {format_mib(grant.granted)}, may hold {format_mib(grant.held)}"


def _timed_out(pods: Sequence[PodView], now: datetime) -> _Finding:
    for view in pods:
        if view.waiting is not None and now.timestamp() >= view.waiting.times_out_at:
            message = f"{view.pod.name} {timeout_message(view.waiting, view.shortage)}"
            return _Finding("TimedOut", "True", "Timeout", message)
    return _Finding("TimedOut", "False", "InTime", "no pod waits longer than its timeout")


def _restart_needed(edits: Sequence[DemandChange]) -> _Finding:
    stale = [edit for edit in edits if edit.restart]
    if not stale:
        return _Finding("RestartNeeded", "False", "UpToDate", "every pod has the demand that is written here")
    rest = f", and {len(stale) - 1} more" if len(stale) > 1 else ""
    message = f"{stale[0].pod.name} {stale[0].restart}{rest}; restart to apply"
    return _Finding("RestartNeeded", "True", "DemandChanged", message)


def _placeable(prospect: Prospect) -> _Finding:
    if prospect.fits:
        return _Finding("Placeable", "True", "Fits", prospect.message)
    return _Finding("Placeable", "False", "InsufficientMemory", prospect.message)


def _pods(views: Iterable[PodView]) -> str:
    count = sum(1 for _ in views)
    return "1 pod" if count == 1 else f"{count} pods"
