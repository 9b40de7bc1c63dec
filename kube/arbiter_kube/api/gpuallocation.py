"""GpuAllocation: the demand of one kind of pod, and what its pods have of it."""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from arbiter.demand import DemandRequest, Level
from arbiter.units import parse_bytes
from arbiter.workload import Priority, Resize, WorkloadType
from arbiter_kube.api.durations import parse_duration
from arbiter_kube.api.fields import (
    ApiModel,
    Conditions,
    Duration,
    ObjectMeta,
    PriorityName,
    Quality,
    Quantity,
    rule,
    validations,
)

_FLOOR_WITHIN_FULL = rule(
    "!has(self.floor) || !has(self.full) || quantity(string(self.floor)).compareTo(quantity(string(self.full))) <= 0",
    "='floor ' + string(self.floor) + ' is larger than full ' + string(self.full)"
    " + '; lower spec.vram.floor or raise spec.vram.full'",
)
_MINIMUM_WITHIN_MAXIMUM = rule(
    "!has(self.minimum) || self.minimum <= (has(self.maximum) ? self.maximum : 1.0)",
    "spec.quality.minimum is above spec.quality.maximum; lower the minimum or raise the maximum",
)


class LevelSpec(ApiModel):
    """A step of an engine that cannot run in between."""

    quality: Quality
    """Quality of the step."""
    vram: Quantity
    """Memory that it takes on each GPU."""


class VramSpec(ApiModel):
    """Sizes per GPU: `full` at the maximum quality, `floor` at the minimum."""

    full: Quantity | None = None
    """Memory at the maximum quality. Default: what is typical of the type."""
    floor: Quantity | None = None
    """Memory at the minimum quality, reserved like a CPU request. Default: full x minimum / maximum; AtStart: full."""
    levels: Annotated[list[LevelSpec], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})] = (
        Field(default_factory=list)
    )
    """Steps of an engine that cannot run in between. Without any, memory follows quality linearly."""

    model_config = ConfigDict(json_schema_extra=validations(_FLOOR_WITHIN_FULL))


class QualitySpec(ApiModel):
    """The range in which quality may move."""

    maximum: Quality | None = None
    """Quality at the full size. Default: 1."""
    minimum: Quality | None = None
    """Quality at the floor, the least there is. Default: the type's, or maximum x floor / full where that is more."""

    model_config = ConfigDict(json_schema_extra=validations(_MINIMUM_WITHIN_MAXIMUM))


class GpuAllocationSpec(ApiModel):
    """What a pod that names the allocation asks for."""

    workload_type: Literal["LlmInference", "ImageGeneration", "VideoGeneration"]
    """What kind of work it is; it has a typical memory, a minimum quality and a timeout."""
    priority: PriorityName = "Normal"
    """Who gives way first, and who may have whom evicted. UserFacing is High."""
    vram: VramSpec = Field(default_factory=VramSpec)
    """Sizes per GPU."""
    quality: QualitySpec = Field(default_factory=QualitySpec)
    """The range in which quality may move."""
    resize: Literal["InPlace", "AtStart"] = "InPlace"
    """InPlace: follows its target while it runs, from its first acknowledgement on. AtStart: sized once, then held."""
    shrink_grace: Duration | None = None
    """How long the engine may take to give memory back before it is overdue. Default: the policy's."""
    gpu_count: Annotated[int, Field(ge=1, le=16)] = 1
    """GPUs of each pod, all on one node; sizes are per GPU."""
    timeout: Duration | None = None
    """How long a pod waits for room before it is told so. Default: 30s, 1m, 2m by type, times the priority's factor."""
    no_wait: bool = False
    """Say at once when a pod finds no room."""

    def request(self) -> DemandRequest:
        """The demand as the core understands it.

        Raises:
            QuantityError: a size that the API server would have refused.
        """
        return DemandRequest(
            workload_type=WorkloadType(self.workload_type),
            priority=Priority(self.priority),
            full=_bytes(self.vram.full),
            floor=_bytes(self.vram.floor),
            levels=tuple(
                Level(quality=_fraction(level.quality), vram=parse_bytes(level.vram)) for level in self.vram.levels
            ),
            maximum=_fraction(self.quality.maximum) if self.quality.maximum is not None else Fraction(1),
            minimum=_fraction(self.quality.minimum) if self.quality.minimum is not None else None,
            gpu_count=self.gpu_count,
            resize=Resize(self.resize),
            shrink_grace=parse_duration(self.shrink_grace) if self.shrink_grace is not None else None,
        )

    def wait_seconds(self) -> float:
        """How long its pods wait for room before they are told that it takes long; 0 with `noWait`."""
        if self.no_wait:
            return 0.0
        if self.timeout is not None:
            return parse_duration(self.timeout)
        return WorkloadType(self.workload_type).timeout(Priority(self.priority))


def _bytes(size: str | None) -> int | None:
    return None if size is None else parse_bytes(size)


def _fraction(quality: float) -> Fraction:
    # The shortest decimal that reads back as the same float is what the person wrote.
    return Fraction(repr(quality))


class ResolvedDemand(ApiModel):
    """The demand with every default filled in."""

    full: str
    """Memory at the maximum quality."""
    floor: str
    """Memory at the minimum quality."""
    minimum: float
    """The least quality."""
    maximum: float
    """The greatest quality."""


class GrantQuality(ApiModel):
    """Quality 0..1: decided, allowed now, and confirmed by the container."""

    target: float | None = None
    """Decided."""
    granted: float | None = None
    """What the container may use now."""
    applied: float | None = None
    """Confirmed by the container."""


class GrantVram(ApiModel):
    """Sizes per GPU: decided, allowed now, possibly still held, and measured."""

    target: str | None = None
    """Decided."""
    granted: str | None = None
    """What the container may use now."""
    held: str | None = None
    """What it may still hold."""
    measured: str | None = None
    """What the node sees in use."""


class GrantSummary(ApiModel):
    """One pod's part of the allocation."""

    pod_uid: Annotated[str, Field(alias="podUID")]
    """The pod's UID."""
    pod: str
    """The pod's name."""
    node: str = ""
    """Where it is."""
    gpus: Annotated[list[str], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})] = Field(
        default_factory=list
    )
    """UUIDs of its GPUs."""
    quality: GrantQuality = Field(default_factory=GrantQuality)
    """Quality 0..1."""
    vram: GrantVram = Field(default_factory=GrantVram)
    """Memory per GPU."""
    revision: int | None = None
    """Number of the target; it only rises."""
    since: str | None = None
    """When the target was decided."""


MAX_GRANTS = 16
"""Only the lowest grants are listed; the rest stands on the pods."""

Phase = Literal["Pending", "Waiting", "Running", "Reduced", "Preempted"]


class GpuAllocationStatus(ApiModel):
    """What its pods have; `phase` is the worst of theirs and `quality` the lowest of their grants."""

    phase: Phase | None = None
    """The worst of its pods."""
    observed_generation: int | None = None
    """The generation of the spec that the status is about."""
    pods: str | None = None
    """Pods that have memory, of all that name it: 1/2."""
    quality: float | None = None
    """The lowest granted quality."""
    resolved: ResolvedDemand | None = None
    """The demand with every default filled in."""
    grants: Annotated[
        list[GrantSummary],
        Field(
            max_length=MAX_GRANTS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["podUID"]},
        ),
    ] = Field(default_factory=list)
    """Its pods, the 16 lowest."""
    conditions: Conditions = Field(default_factory=list)
    """Accepted, Placed, QualityMet, Converged, TimedOut, RestartNeeded, Placeable."""


class GpuAllocation(ApiModel):
    """The custom resource."""

    metadata: ObjectMeta
    """The object's metadata."""
    spec: GpuAllocationSpec
    """What a pod that names it asks for."""
    status: GpuAllocationStatus = Field(default_factory=GpuAllocationStatus)
    """What its pods have."""
