"""Pods that ask for VRAM, as Arbiter sees them: one reading of spec, annotations and status for every process."""

import logging
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, NodeName, OwnerUid, PodUid
from arbiter.units import Slices
from arbiter.workload import Priority, WorkloadType
from arbiter_kube.api import annotations as a
from arbiter_kube.api.annotations import FrozenDemand, InvalidAnnotationError, Nomination, TargetGrant
from arbiter_kube.api.objects import Pod

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPod:
    """A pod that asks for VRAM. `slices` is what the kubelet reserves in all; times are seconds since the epoch.

    `local_uid` is the UID by which its kubelet and its control groups know it.
    `owner` is the controller that made it and its replicas.
    """

    uid: PodUid
    namespace: str
    name: str
    frozen: FrozenDemand
    slices: Slices
    node: NodeName | None = None
    gpus: tuple[GpuUuid, ...] = ()
    grant: TargetGrant | None = None
    nomination: Nomination | None = None
    created_at: float = 0.0
    bound_at: float | None = None
    finished: bool = False
    terminating: bool = False
    ready: bool = False
    scheduler_name: str = ""
    local_uid: str = ""
    owner: OwnerUid | None = None

    @property
    def key(self) -> str:
        """Namespace and name as people write them: ``team-a/chat-0``."""
        return f"{self.namespace}/{self.name}"

    @property
    def demand(self) -> Demand:
        """Its frozen demand."""
        return self.frozen.demand


def gpu_pod(pod: Pod, *, unit: int) -> GpuPod | None:
    """The pod as Arbiter sees it, or None where no container asks for VRAM; `unit` is the bytes of one slice.

    A pod without a readable frozen demand came past admission: it is a fixed demand of the slices that it reserves.
    """
    slices = Slices(sum(container.resources.slices for container in pod.spec.containers))
    if not slices:
        return None
    annotations = pod.metadata.annotations
    frozen = _frozen(pod, unit=unit, slices=slices)
    status = pod.container_status(frozen.container)
    return GpuPod(
        uid=pod.uid,
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        frozen=frozen,
        slices=slices,
        node=pod.node,
        gpus=a.decode_gpus(annotations.get(a.GPUS, "")),
        grant=_grant(pod),
        nomination=_nomination(pod),
        created_at=_seconds(pod.metadata.creation_timestamp) or 0.0,
        bound_at=_condition_time(pod, "PodScheduled") if pod.node else None,
        finished=pod.is_finished,
        terminating=pod.is_terminating,
        ready=status is not None and status.ready,
        scheduler_name=pod.spec.scheduler_name,
        local_uid=pod.local_uid,
        owner=next((OwnerUid(owner.uid) for owner in pod.metadata.owner_references if owner.controller), None),
    )


def _frozen(pod: Pod, *, unit: int, slices: Slices) -> FrozenDemand:
    text = pod.metadata.annotations.get(a.DEMAND)
    if text is not None:
        try:
            return a.decode_demand(text)
        except InvalidAnnotationError as error:
            _log.warning("demand unreadable, counted as fixed pod=%s error=%s", pod.key, error)
    container = next(c.name for c in pod.spec.containers if c.resources.slices)
    return FrozenDemand(demand=fixed_demand(slices * unit), container=container)


def fixed_demand(size: int, *, gpu_count: int = 1) -> Demand:
    """The demand of an engine that nothing is known of but its `size` in bytes per GPU: it never moves."""
    return Demand(
        workload_type=WorkloadType.LLM_INFERENCE,
        priority=Priority.NORMAL,
        full=size,
        floor=size,
        maximum=Fraction(1),
        minimum=Fraction(1),
        gpu_count=gpu_count,
    )


def _grant(pod: Pod) -> TargetGrant | None:
    text = pod.metadata.annotations.get(a.GRANT)
    if text is None:
        return None
    try:
        return a.decode_grant(text)
    except InvalidAnnotationError as error:
        _log.warning("grant unreadable, taken as none pod=%s error=%s", pod.key, error)
        return None


def _nomination(pod: Pod) -> Nomination | None:
    text = pod.metadata.annotations.get(a.NOMINATED)
    if text is None:
        return None
    try:
        return a.decode_nomination(text)
    except InvalidAnnotationError as error:
        _log.warning("nomination unreadable, taken as none pod=%s error=%s", pod.key, error)
        return None


def _condition_time(pod: Pod, kind: str) -> float | None:
    return next((_seconds(c.last_transition_time) for c in pod.status.conditions if c.type == kind), None)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
