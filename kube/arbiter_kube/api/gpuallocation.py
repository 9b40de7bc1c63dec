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
    vram: Quantity


class VramSpec(ApiModel):
    """Sizes per GPU: `full` at the maximum quality, `floor` at the minimum."""

    full: Quantity | None = None
    floor: Quantity | None = None
    levels: Annotated[list[LevelSpec], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})] = (
        Field(default_factory=list)
    )

    model_config = ConfigDict(json_schema_extra=validations(_FLOOR_WITHIN_FULL))


class QualitySpec(ApiModel):
    """The range in which quality may move."""

    maximum: Quality | None = None
    minimum: Quality | None = None

    model_config = ConfigDict(json_schema_extra=validations(_MINIMUM_WITHIN_MAXIMUM))


class GpuAllocationSpec(ApiModel):
    """What a pod that names the allocation asks for."""

    workload_type: Literal["LlmInference", "ImageGeneration", "VideoGeneration"]
    priority: PriorityName = "Normal"
    vram: VramSpec = Field(default_factory=VramSpec)
    quality: QualitySpec = Field(default_factory=QualitySpec)
    resize: Literal["InPlace", "AtStart"] = "InPlace"
    shrink_grace: Duration | None = None
    gpu_count: Annotated[int, Field(ge=1, le=16)] = 1
    timeout: Duration | None = None
    no_wait: bool = False

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
    floor: str
    minimum: float
    maximum: float


class GrantQuality(ApiModel):
    """Quality 0..1: decided, allowed now, and confirmed by the container."""

    target: float | None = None
    granted: float | None = None
    applied: float | None = None


class GrantVram(ApiModel):
    """Sizes per GPU: decided, allowed now, possibly still held, and measured."""

    target: str | None = None
    granted: str | None = None
    held: str | None = None
    measured: str | None = None


class GrantSummary(ApiModel):
    """One pod's part of the allocation."""

    pod_uid: Annotated[str, Field(alias="podUID")]
    pod: str
    node: str = ""
    gpus: Annotated[list[str], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})] = Field(
        default_factory=list
    )
    quality: GrantQuality = Field(default_factory=GrantQuality)
    vram: GrantVram = Field(default_factory=GrantVram)
    revision: int | None = None
    since: str | None = None


MAX_GRANTS = 16
"""Only the lowest grants are listed; the rest stands on the pods."""

Phase = Literal["Pending", "Waiting", "Running", "Reduced", "Preempted"]


class GpuAllocationStatus(ApiModel):
    """What its pods have; `phase` is the worst of theirs and `quality` the lowest of their grants."""

    phase: Phase | None = None
    observed_generation: int | None = None
    pods: str | None = None
    quality: float | None = None
    resolved: ResolvedDemand | None = None
    grants: Annotated[
        list[GrantSummary],
        Field(
            max_length=MAX_GRANTS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["podUID"]},
        ),
    ] = Field(default_factory=list)
    conditions: Conditions = Field(default_factory=list)


class GpuAllocation(ApiModel):
    """The custom resource."""

    metadata: ObjectMeta
    spec: GpuAllocationSpec
    status: GpuAllocationStatus = Field(default_factory=GpuAllocationStatus)
