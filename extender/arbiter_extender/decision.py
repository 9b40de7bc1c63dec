"""What to answer kube-scheduler: pure functions from the ledger to a plan; the caller carries out what a plan holds.

Every rejection is one of a few constant texts. kube-scheduler writes it into the pod's condition, and a text that
changes wakes the pod by itself, for ever. Imports the core and the ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from arbiter.demand import Demand
from arbiter.ids import NodeName
from arbiter.placement import Newcomer, fits
from arbiter.units import format_bytes, slices_for
from arbiter_extender.ledger import Hardware, Ledger
from arbiter_extender.promises import Assignment
from arbiter_kube.api.occupancy import slices_per_gpu
from arbiter_kube.api.pods import GpuPod


class Reason(StrEnum):
    """Why a node will not do, as `kubectl describe pod` shows it behind a count of nodes."""

    NO_ROOM = "no GPU with room for the floor"
    TOO_FEW = "too few GPUs with room for the floor"
    TOO_SMALL = "no GPU as large as the floor"
    TOO_FEW_LARGE = "too few GPUs as large as the floor"
    OTHER_UNIT = "GPU memory counted in another unit by the node's agent"
    NOT_REPORTED = "GPUs not reported by the node's agent"
    ELSEWHERE = "already being bound to another node"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterPlan:
    """The nodes that will do, in the order asked for, why others will not, and what is to be held softly.

    Nodes are `unresolvable` where evictions by kube-scheduler cannot help: it counts units of a node and sees no
    single GPU. On `failed` ones they, or time, may.
    """

    passed: tuple[NodeName, ...]
    failed: dict[NodeName, Reason] = field(default_factory=dict)
    unresolvable: dict[NodeName, Reason] = field(default_factory=dict)
    hold: Assignment | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A bind that must not happen, in one sentence."""

    sentence: str


class FilterAnswer(StrEnum):
    """Which of the nodes that will do `filter` names."""

    ALL = "all"
    """Every one: other plugins' scores count beside what `prioritize` says, by the weight that it has."""
    BEST = "best"
    """The best alone: kube-scheduler then scores nothing and does not ask `prioritize`."""


def filter_nodes(
    ledger: Ledger, pod: GpuPod, nodes: Sequence[NodeName], *, answer: FilterAnswer = FilterAnswer.ALL
) -> FilterPlan:
    """The nodes where the pod's floor has room, or the best of them.

    Where one is named kube-scheduler asks nothing more before it binds, so its room is to be held at once.
    """
    assigned = ledger.assigned(pod.uid)
    if assigned is not None:
        others = {name: Reason.ELSEWHERE for name in nodes if name != assigned.node}
        return FilterPlan(passed=tuple(name for name in nodes if name == assigned.node), failed=others)
    wanted = newcomer(pod, unit=ledger.unit)
    placement = ledger.placement(besides=pod.uid)
    if answer is FilterAnswer.BEST:
        best = placement.choose(wanted, nodes)
        if best is not None:
            return FilterPlan(passed=(best.node,), hold=Assignment(node=best.node, gpus=best.gpus))
    passed = placement.fitting(wanted, nodes)
    failed, unresolvable = _reasons(ledger, wanted.demand, nodes, passed=frozenset(passed))
    best = placement.choose(wanted, passed) if len(passed) == 1 else None
    return FilterPlan(
        passed=tuple(passed),
        failed=failed,
        unresolvable=unresolvable,
        hold=None if best is None else Assignment(node=best.node, gpus=best.gpus),
    )


def prioritize(ledger: Ledger, pod: GpuPod, nodes: Sequence[NodeName]) -> Assignment | None:
    """The best of the nodes and its GPUs, to be held softly; None where none has room any more."""
    best = ledger.placement(besides=pod.uid).choose(newcomer(pod, unit=ledger.unit), nodes)
    return None if best is None else Assignment(node=best.node, gpus=best.gpus)


def plan_bind(ledger: Ledger, pod: GpuPod, node: NodeName) -> Assignment | Refusal:
    """The GPUs to bind the pod with: those held for it if they still have room, else the best of the node."""
    assigned = ledger.assigned(pod.uid)
    if assigned is not None:
        if assigned.node == node:
            return assigned
        return Refusal(f"{pod.key} is being bound to {assigned.node} and cannot be bound to {node}.")
    demand = needed(pod, unit=ledger.unit)
    held = ledger.soft_hold(pod.uid)
    if held is not None and held.node == node and _still_fits(ledger, pod, demand, held):
        return held
    best = prioritize(ledger, pod, (node,))
    if best is not None:
        return best
    if ledger.hardware(node) is None:
        return Refusal(f"{pod.key} cannot be bound to {node}: {Reason.NOT_REPORTED}.")
    return Refusal(
        f"{pod.key} cannot be bound to {node}: the room for its floor of {format_bytes(demand.floor)} "
        "was taken meanwhile."
    )


def newcomer(pod: GpuPod, *, unit: int) -> Newcomer:
    """The pod as placement sees it."""
    return Newcomer(demand=needed(pod, unit=unit), owner=pod.owner)


def needed(pod: GpuPod, *, unit: int) -> Demand:
    """Its demand, with a floor that fills the slices that the kubelet will reserve, should those be more."""
    slices = slices_per_gpu(pod)
    if slices <= slices_for(pod.demand.floor, unit=unit):
        return pod.demand
    floor = slices * unit
    return replace(pod.demand, floor=floor, full=max(floor, pod.demand.full))


def _reasons(
    ledger: Ledger, demand: Demand, nodes: Sequence[NodeName], *, passed: frozenset[NodeName]
) -> tuple[dict[NodeName, Reason], dict[NodeName, Reason]]:
    """Why the others will not do, apart by whether evictions may help."""
    failed: dict[NodeName, Reason] = {}
    unresolvable: dict[NodeName, Reason] = {}
    for name in nodes if len(passed) < len(nodes) else ():
        if name in passed:
            continue
        hardware = ledger.hardware(name)
        if hardware is None:
            failed[name] = Reason.NOT_REPORTED
        else:
            unresolvable[name] = _reason(hardware, demand, unit=ledger.unit)
    return failed, unresolvable


def _reason(hardware: Hardware, demand: Demand, *, unit: int) -> Reason:
    """Why a node that has reported has no room."""
    if hardware.unit != unit:
        return Reason.OTHER_UNIT
    sizes, count = hardware.sizes, demand.gpu_count
    if not sizes or sizes[0] < demand.floor:
        return Reason.TOO_SMALL
    if len(sizes) < count or sizes[count - 1] < demand.floor:
        return Reason.TOO_FEW_LARGE
    return Reason.NO_ROOM if count == 1 else Reason.TOO_FEW


def _still_fits(ledger: Ledger, pod: GpuPod, demand: Demand, held: Assignment) -> bool:
    there = ledger.occupancy(held.node, besides=pod.uid)
    if there is None:
        return False
    on_these = replace(there.room, gpus=tuple(gpu for gpu in there.room.gpus if gpu.uuid in held.gpus))
    return fits(on_these, demand)
