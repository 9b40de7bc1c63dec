"""The events that people see on pods and allocations. Pure: what happened in, notices out."""

from fractions import Fraction

from arbiter.units import format_bytes, format_mib
from arbiter_kube.api.annotations import TargetGrant
from arbiter_kube.api.gpuallocation import GpuAllocation, GpuAllocationStatus
from arbiter_kube.api.objects import ObjectReference
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.resources import GPU_ALLOCATIONS, PODS
from arbiter_kube.client.events import EventType, Notice, reference
from arbiter_operator.evictions import Eviction
from arbiter_operator.waiting import Waiting, timeout_message

_NOTEWORTHY = Fraction(1, 100)
"""Smaller changes of quality are no event: others' bytes in whole MiB move everybody by a thousandth."""


def about_pod(pod: GpuPod) -> ObjectReference:
    """The reference to a pod."""
    return ObjectReference(
        api_version=PODS.api_version, kind=PODS.kind, namespace=pod.namespace, name=pod.name, uid=pod.uid
    )


def target_notices(
    pod: GpuPod, before: TargetGrant | None, after: TargetGrant, *, allocation: GpuAllocation | None
) -> list[Notice]:
    """A pod's quality went down or up; a first target is no event, and neither is a change that nobody notices."""
    if before is None:
        return []
    change = Fraction(after.quality) - Fraction(before.quality)
    reaches_full = change > 0 and Fraction(after.quality) == pod.demand.maximum
    if abs(change) < _NOTEWORTHY and not reaches_full:
        return []
    what = f"{before.quality} -> {after.quality} ({format_mib(after.vram)}): {after.reason}"
    return _both(pod, allocation, reason="QualityReduced" if change < 0 else "QualityRestored", message=what)


def waiting_notices(waiting: Waiting, shortage: str, *, allocation: GpuAllocation | None) -> list[Notice]:
    """A pod waits for room."""
    return _both(waiting.pod, allocation, reason="VramWaiting", message=shortage)


def timeout_notices(waiting: Waiting, shortage: str, *, allocation: GpuAllocation | None) -> list[Notice]:
    """A pod has waited for as long as was asked for."""
    return _both(
        waiting.pod,
        allocation,
        reason="VramTimeout",
        message=timeout_message(waiting, shortage),
        kind=EventType.WARNING,
    )


def preempted_message(newcomer: GpuPod, where: str) -> str:
    """Who took the room of a pod that was evicted."""
    priority, floor = newcomer.demand.priority.value, format_bytes(newcomer.demand.floor)
    return f"was evicted for {newcomer.key} ({priority}), which needs {floor} on {where}"


def preempted_notices(
    victim: GpuPod, newcomer: GpuPod, where: str, *, allocation: GpuAllocation | None
) -> list[Notice]:
    """A pod has to leave for a more important one; `where` as ``gpu-2/0``."""
    message = preempted_message(newcomer, where)
    return _both(victim, allocation, reason="Preempted", message=message, kind=EventType.WARNING)


def preempting_notices(
    newcomer: GpuPod, victim: GpuPod, where: str, *, allocation: GpuAllocation | None
) -> list[Notice]:
    """A waiting pod gets the room of another."""
    message = f"gets room on {where}: {victim.key} ({victim.demand.priority.value}) was evicted for it"
    return _both(newcomer, allocation, reason="Preempting", message=message)


def evicted_notices(eviction: Eviction, *, allocation: GpuAllocation | None) -> list[Notice]:
    """A pod has to leave because its GPU cannot keep it."""
    message = f"was evicted: {eviction.message}"
    return _both(eviction.pod, allocation, reason=eviction.cause, message=message, kind=EventType.WARNING)


def found_notices(pod: GpuPod, where: str, *, allocation: GpuAllocation | None) -> list[Notice]:
    """A pod that waited has its GPU; `where` as ``gpu-2/0``."""
    return _both(pod, allocation, reason="VramFound", message=f"{format_bytes(pod.demand.floor)} free on {where}")


def _both(
    pod: GpuPod,
    allocation: GpuAllocation | None,
    *,
    reason: str,
    message: str,
    kind: EventType = EventType.NORMAL,
) -> list[Notice]:
    """The same on the pod and, with the pod's name, on the allocation."""
    notices = [Notice(about=about_pod(pod), type=kind, reason=reason, message=message)]
    if allocation is not None:
        about = reference(GPU_ALLOCATIONS, allocation.metadata)
        notices.append(Notice(about=about, type=kind, reason=reason, message=f"{pod.name} {message}"))
    return notices


_TOLD = {"Accepted": ("False", EventType.WARNING), "RestartNeeded": ("True", EventType.NORMAL)}
"""Conditions that are also told as an event, when they come to have this status."""


def condition_notices(allocation: GpuAllocation, after: GpuAllocationStatus) -> list[Notice]:
    """Conditions that people should not have to look for; the event is called as the condition's reason."""
    before = {condition.type: condition.status for condition in allocation.status.conditions}
    about = reference(GPU_ALLOCATIONS, allocation.metadata)
    return [
        Notice(about=about, type=_TOLD[condition.type][1], reason=condition.reason, message=condition.message)
        for condition in after.conditions
        if condition.type in _TOLD
        and condition.status == _TOLD[condition.type][0]
        and before.get(condition.type) != condition.status
    ]
