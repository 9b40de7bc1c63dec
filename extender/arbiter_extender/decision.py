"""What to answer kube-scheduler: pure functions from the ledger to a plan; the caller carries out what a plan holds.

Every rejection is one of a few constant texts. kube-scheduler writes it into the pod's condition, and a text that
changes wakes the pod by itself, for ever. Imports the core and the ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from arbiter.demand import Demand
from arbiter.ids import NodeName
from arbiter.placement import choose, fits
from arbiter.units import format_bytes, slices_for
from arbiter_extender.ledger import Ledger
from arbiter_extender.occupancy import NodeOccupancy, Placement, slices_per_gpu
from arbiter_kube.api.pods import GpuPod


class Reason(StrEnum):
    """Why a node will not do, as `kubectl describe pod` shows it behind a count of nodes."""

    NO_ROOM = "no GPU with room for the floor"
    TOO_FEW = "too few GPUs with room for the floor"
    TOO_SMALL = "no GPU as large as the floor"
    NOT_REPORTED = "GPUs not reported by the node's agent"
    ELSEWHERE = "already being bound to another node"

    @property
    def is_unresolvable(self) -> bool:
        """Whether evictions by kube-scheduler cannot help: it counts units of a node and sees no single GPU."""
        return self in (Reason.NO_ROOM, Reason.TOO_FEW, Reason.TOO_SMALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterPlan:
    """The nodes that will do, in the order asked for, why others will not, and what is to be held softly."""

    passed: tuple[NodeName, ...]
    rejected: dict[NodeName, Reason] = field(default_factory=dict)
    hold: Placement | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A bind that must not happen, in one sentence."""

    sentence: str


def filter_nodes(ledger: Ledger, pod: GpuPod, nodes: Sequence[NodeName], *, now: float) -> FilterPlan:
    """The nodes where the pod's floor has room.

    Where only one is left kube-scheduler asks nothing more before it binds, so its room is to be held at once.
    """
    assigned = ledger.assigned(pod.uid)
    if assigned is not None:
        others = {name: Reason.ELSEWHERE for name in nodes if name != assigned.node}
        return FilterPlan(passed=tuple(name for name in nodes if name == assigned.node), rejected=others)
    demand = needed(pod, unit=ledger.unit)
    reasons = {name: _reason(ledger.node(name, now=now, besides=pod.uid), demand) for name in nodes}
    passed = tuple(name for name, reason in reasons.items() if reason is None)
    return FilterPlan(
        passed=passed,
        rejected={name: reason for name, reason in reasons.items() if reason is not None},
        hold=prioritize(ledger, pod, passed, now=now) if len(passed) == 1 else None,
    )


def prioritize(ledger: Ledger, pod: GpuPod, nodes: Sequence[NodeName], *, now: float) -> Placement | None:
    """The best of the nodes and its GPUs, to be held softly; None where none has room any more."""
    views = (ledger.node(name, now=now, besides=pod.uid) for name in nodes)
    best = choose((view.room for view in views if view is not None), needed(pod, unit=ledger.unit))
    return None if best is None else Placement(node=best.node, gpus=best.gpus)


def plan_bind(ledger: Ledger, pod: GpuPod, node: NodeName, *, now: float) -> Placement | Refusal:
    """The GPUs to bind the pod with: those held for it if they still have room, else the best of the node."""
    assigned = ledger.assigned(pod.uid)
    if assigned is not None:
        if assigned.node == node:
            return assigned
        return Refusal(f"{pod.key} is being bound to {assigned.node} and cannot be bound to {node}.")
    view = ledger.node(node, now=now, besides=pod.uid)
    if view is None:
        return Refusal(f"{pod.key} cannot be bound to {node}: {Reason.NOT_REPORTED}.")
    demand = needed(pod, unit=ledger.unit)
    held = ledger.soft_hold(pod.uid)
    if held is not None and held.node == node and _still_fits(view, demand, held):
        return held
    choice = choose((view.room,), demand)
    if choice is None:
        return Refusal(
            f"{pod.key} cannot be bound to {node}: the room for its floor of {format_bytes(demand.floor)} "
            "was taken meanwhile."
        )
    return Placement(node=node, gpus=choice.gpus)


def needed(pod: GpuPod, *, unit: int) -> Demand:
    """Its demand, with a floor that fills the slices that the kubelet will reserve, should those be more."""
    slices = slices_per_gpu(pod)
    if slices <= slices_for(pod.demand.floor, unit=unit):
        return pod.demand
    floor = slices * unit
    return replace(pod.demand, floor=floor, full=max(floor, pod.demand.full))


def _reason(view: NodeOccupancy | None, demand: Demand) -> Reason | None:
    if view is None:
        return Reason.NOT_REPORTED
    if fits(view.room, demand):
        return None
    if view.largest // view.room.unit < slices_for(demand.floor, unit=view.room.unit):
        return Reason.TOO_SMALL
    return Reason.NO_ROOM if demand.gpu_count == 1 else Reason.TOO_FEW


def _still_fits(view: NodeOccupancy, demand: Demand, held: Placement) -> bool:
    on_these = replace(view.room, gpus=tuple(gpu for gpu in view.room.gpus if gpu.uuid in held.gpus))
    return fits(on_these, demand)
