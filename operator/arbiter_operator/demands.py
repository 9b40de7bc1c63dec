"""What an edited GpuAllocation means for its running pods: a new frozen demand, or a restart. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from arbiter.demand import Demand, DemandDefaults, InvalidDemandError, resolve
from arbiter.units import format_bytes
from arbiter_kube.api.annotations import FrozenDemand
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.admission.decision import reserved_slices


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
        demand = resolved(allocation, defaults=defaults)
    except InvalidDemandError:
        return ()  # its condition Accepted says so; running pods keep what they have
    outdated = (pod for pod in pods if _is_outdated(pod, allocation) and pod.demand != demand)
    return tuple(_change(pod, demand, allocation, unit=unit) for pod in outdated)


def _is_outdated(pod: GpuPod, allocation: GpuAllocation) -> bool:
    """By generation, or because the allocation was made anew under its name."""
    made = allocation.metadata.creation_timestamp
    newer = made is not None and made.timestamp() > pod.created_at
    return newer or pod.frozen.generation != allocation.metadata.generation


def _change(pod: GpuPod, demand: Demand, allocation: GpuAllocation, *, unit: int) -> DemandChange:
    if demand.gpu_count != pod.demand.gpu_count:
        has = "1 GPU" if pod.demand.gpu_count == 1 else f"{pod.demand.gpu_count} GPUs"
        return DemandChange(pod=pod, restart=f"has {has}, gpuCount {demand.gpu_count} is asked for")
    if reserved_slices(demand, unit=unit) > pod.slices:
        each = format_bytes(pod.slices // pod.demand.gpu_count * unit)
        return DemandChange(pod=pod, restart=f"reserved {each}, floor {format_bytes(demand.floor)} is asked for")
    frozen = replace(pod.frozen, demand=demand, generation=allocation.metadata.generation)
    return DemandChange(pod=pod, frozen=frozen)
