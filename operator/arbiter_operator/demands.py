"""What an edited GpuAllocation means for its running pods: a new frozen demand, or a restart. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache

from arbiter.demand import SPEC_FIELDS, Demand, DemandDefaults, InvalidDemandError, resolve
from arbiter.units import Slices, format_bytes
from arbiter_kube.api.annotations import FrozenDemand
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.admission.decision import Wanted, reserved_slices
from arbiter_operator.admission.errors import RefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandChange:
    """A running pod whose allocation was edited: what to freeze into it, or why it has to be restarted."""

    pod: GpuPod
    frozen: FrozenDemand | None = None
    restart: str = ""


def resolved(allocation: GpuAllocation, *, defaults: DemandDefaults) -> Demand:
    """The demand that the allocation stands for.

    Raises:
        InvalidDemandError: it contradicts itself beyond what its schema can see.
    """
    return resolve(allocation.spec.request(), defaults=defaults)


def edits(
    allocation: GpuAllocation, pods: Iterable[GpuPod], *, defaults: DemandDefaults, unit: int
) -> tuple[DemandChange, ...]:
    """What becomes of the pods that name the allocation and were made under another version of it."""
    try:
        resolved(allocation, defaults=defaults)
    except InvalidDemandError:
        return ()  # its condition Accepted says so; running pods keep what they have
    wanted = Wanted(request=allocation.spec.request(), names=SPEC_FIELDS)

    @cache
    def demand(asked: Slices) -> Demand:
        return wanted.demand(asked, defaults=defaults, unit=unit)

    outdated = (pod for pod in pods if _is_outdated(pod, allocation))
    changes = (_change(pod, demand, allocation, unit=unit) for pod in outdated)
    return tuple(change for change in changes if change is not None)


def _is_outdated(pod: GpuPod, allocation: GpuAllocation) -> bool:
    """Whether the allocation was edited since, or made anew under its name."""
    metadata = allocation.metadata
    return (pod.frozen.allocation_uid, pod.frozen.generation) != (metadata.uid, metadata.generation)


def _change(
    pod: GpuPod, wanted: Callable[[Slices], Demand], allocation: GpuAllocation, *, unit: int
) -> DemandChange | None:
    """What admission would freeze into the pod if it were made now; None where that is what it has."""
    try:
        demand = wanted(Slices(pod.frozen.asked))
    except RefusedError as error:
        return DemandChange(pod=pod, restart=f"would be refused: {str(error).removesuffix('.')}")
    if demand == pod.demand:
        return None
    if demand.gpu_count != pod.demand.gpu_count:
        has = "1 GPU" if pod.demand.gpu_count == 1 else f"{pod.demand.gpu_count} GPUs"
        return DemandChange(pod=pod, restart=f"has {has}, gpuCount {demand.gpu_count} is asked for")
    if reserved_slices(demand, unit=unit) > pod.slices:
        each = format_bytes(pod.slices // pod.demand.gpu_count * unit)
        return DemandChange(pod=pod, restart=f"reserved {each}, floor {format_bytes(demand.floor)} is asked for")
    metadata = allocation.metadata
    frozen = replace(pod.frozen, demand=demand, allocation_uid=metadata.uid, generation=metadata.generation)
    return DemandChange(pod=pod, frozen=frozen)
