"""The annotation keys of pods, and what each of them holds.

People write the first group; Arbiter writes the second, and admission keeps everybody else from doing so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, TypeVar

import msgspec

from arbiter.demand import (
    Demand,
    DemandDefaults,
    DemandRequest,
    FieldNames,
    InvalidDemandError,
    Level,
    format_quality,
    resolve,
)
from arbiter.ids import GpuUuid, NodeName
from arbiter.units import QuantityError, format_mib, parse_bytes
from arbiter.workload import MemoryPressure, Priority, Resize, WorkloadType
from arbiter_kube.api import GROUP
from arbiter_kube.api.reading import UNREADABLE


def _key(name: str) -> str:
    return f"{GROUP}/{name}"


ALLOCATION = _key("allocation")
"""The GpuAllocation of the pod's namespace whose demand this is."""
WORKLOAD_TYPE = _key("workload-type")
"""LlmInference, ImageGeneration or VideoGeneration; needed beside any of those below."""
PRIORITY = _key("priority")
"""Background, Low, Normal (default), High or Critical."""
VRAM_FULL = _key("vram-full")
"""Memory on each GPU at full quality; default: what is typical of the type."""
VRAM_FLOOR = _key("vram-floor")
"""Memory on each GPU at the minimum quality, which is reserved."""
QUALITY_MINIMUM = _key("quality-minimum")
"""The least quality."""
GPU_COUNT = _key("gpu-count")
"""GPUs of the pod, 1 by default; sizes are per GPU."""
RESIZE = _key("resize")
"""InPlace (default), or AtStart: sized once, then held."""
CONTAINER = _key("container")
"""Which container has the memory, where the pod has several."""

INLINE_KEYS = (WORKLOAD_TYPE, PRIORITY, VRAM_FULL, VRAM_FLOOR, QUALITY_MINIMUM, GPU_COUNT, RESIZE)
PEOPLE_KEYS = (ALLOCATION, *INLINE_KEYS, CONTAINER)

DEMAND = _key("demand")
"""What the pod asked for when it was created, in JSON with a version."""
GPUS = _key("gpus")
"""UUIDs of the GPUs that it was bound with."""
QUALITY_TARGET = _key("quality-target")
"""The quality decided for it."""
VRAM_TARGET = _key("vram-target")
"""The memory on each GPU that goes with it."""
PRESSURE = _key("pressure")
"""How scarce its GPU is: Low, Moderate, High or Critical."""
REVISION = _key("revision")
"""Number of the target; it only rises."""
GRANT = _key("grant")
"""What the agent writes into the container, in JSON."""
NOMINATED = _key("nominated")
"""Where room is kept for it, and until when."""
WAKE = _key("wake")
"""When a pod that waits was last told that it fits now."""

ARBITER_KEYS = (DEMAND, GPUS, QUALITY_TARGET, VRAM_TARGET, PRESSURE, REVISION, GRANT, NOMINATED, WAKE)

INLINE_FIELDS: FieldNames = {
    "full": VRAM_FULL,
    "floor": VRAM_FLOOR,
    "minimum": QUALITY_MINIMUM,
    "maximum": "quality.maximum",
    "levels": "levels",
    "gpu_count": GPU_COUNT,
    "shrink_grace": "shrinkGrace",
}


# Bounded, since exact fractions have no largest value: 1e99999999 would keep admission busy for minutes.
_DECIMAL = re.compile(r"-?(\d{1,9}(\.\d{0,18})?|\.\d{1,18})", re.ASCII)
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)


class InvalidAnnotationError(InvalidDemandError):
    """An annotation that cannot be read; the text names it and says what to write instead."""


def inline_request(annotations: Mapping[str, str]) -> DemandRequest | None:
    """The demand that a pod's own annotations write out, or None where it has none of them.

    Raises:
        InvalidAnnotationError: a value that cannot be read.
    """
    if not any(key in annotations for key in INLINE_KEYS):
        return None
    kind = annotations.get(WORKLOAD_TYPE)
    if kind is None:
        raise InvalidAnnotationError(f"{WORKLOAD_TYPE} is missing; write one of {', '.join(WorkloadType)}.")
    return DemandRequest(
        workload_type=WorkloadType(_one_of(WORKLOAD_TYPE, kind, tuple(WorkloadType))),
        priority=Priority(
            _one_of(
                PRIORITY,
                annotations.get(PRIORITY, Priority.NORMAL.value),
                (*(priority.value for priority in Priority), "UserFacing"),
            )
        ),
        full=_size(annotations, VRAM_FULL),
        floor=_size(annotations, VRAM_FLOOR),
        minimum=_decimal(annotations, QUALITY_MINIMUM),
        gpu_count=_count(annotations),
        resize=Resize(_one_of(RESIZE, annotations.get(RESIZE, Resize.IN_PLACE.value), tuple(Resize))),
    )


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise InvalidAnnotationError(f'{key} "{value}" is unknown; write one of {", ".join(choices)}.')
    return value


def _size(annotations: Mapping[str, str], key: str) -> int | None:
    if key not in annotations:
        return None
    try:
        return parse_bytes(annotations[key])
    except QuantityError as error:
        raise InvalidAnnotationError(f"{key}: {error}.") from error


def _decimal(annotations: Mapping[str, str], key: str) -> Fraction | None:
    if key not in annotations:
        return None
    if _DECIMAL.fullmatch(annotations[key]) is None:
        raise InvalidAnnotationError(f'{key} "{annotations[key]}" is no number; write for example 0.5.')
    return Fraction(annotations[key])


def _count(annotations: Mapping[str, str]) -> int:
    text = annotations.get(GPU_COUNT, "1")
    if _DIGITS.fullmatch(text) is None:
        raise InvalidAnnotationError(f'{GPU_COUNT} "{text}" is no whole number; write for example 2.')
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenDemand:
    """What admission froze into a pod: its demand, the container it is for, and where the demand came from.

    `allocation_uid` and `generation` tell which version of the allocation that was: another one may be made under its
    name. `asked` are the slices that the pod's template asked for by itself, in all; 0 where it left that to Arbiter.
    """

    demand: Demand
    container: str
    allocation: str | None = None
    allocation_uid: str | None = None
    generation: int | None = None
    asked: int = 0


class _LevelJson(msgspec.Struct):
    quality: str
    vram: int


class _DemandJson(msgspec.Struct, rename="camel"):
    version: int
    workload_type: WorkloadType
    priority: str
    full: int
    floor: int
    maximum: str
    minimum: str
    container: str
    gpu_count: int = 1
    resize: Resize = Resize.IN_PLACE
    shrink_grace: float = 0.0
    levels: list[_LevelJson] = []
    allocation: str | None = None
    allocation_uid: str | None = None
    generation: int | None = None
    asked: int = 0


DEMAND_VERSION = 1


def encode_demand(frozen: FrozenDemand) -> str:
    """The value of the demand annotation: JSON with a version; qualities are decimal strings, sizes bytes."""
    demand = frozen.demand
    return msgspec.json.encode(
        _DemandJson(
            version=DEMAND_VERSION,
            workload_type=demand.workload_type,
            priority=demand.priority.value,
            full=demand.full,
            floor=demand.floor,
            maximum=format_quality(demand.maximum),
            minimum=format_quality(demand.minimum),
            levels=[_LevelJson(quality=format_quality(level.quality), vram=level.vram) for level in demand.levels],
            gpu_count=demand.gpu_count,
            resize=demand.resize,
            shrink_grace=demand.shrink_grace,
            container=frozen.container,
            allocation=frozen.allocation,
            allocation_uid=frozen.allocation_uid,
            generation=frozen.generation,
            asked=frozen.asked,
        )
    ).decode()


@lru_cache(maxsize=4096)  # replicas share theirs, and every event of a pod brings it again
def decode_demand(text: str) -> FrozenDemand:
    """What `encode_demand` wrote.

    Raises:
        InvalidAnnotationError: the text is none of ours, or of a version that this process does not know.
    """
    try:
        raw = msgspec.json.decode(text, type=_DemandJson)
        if raw.version != DEMAND_VERSION:
            raise InvalidAnnotationError(f"{DEMAND} has version {raw.version}; this process knows {DEMAND_VERSION}.")
        demand = _thawed(raw)
    except (*UNREADABLE, ValueError) as error:
        if isinstance(error, InvalidAnnotationError):
            raise
        raise InvalidAnnotationError(f"{DEMAND} cannot be read: {error}") from error
    return FrozenDemand(
        demand=demand,
        container=raw.container,
        allocation=raw.allocation,
        allocation_uid=raw.allocation_uid,
        generation=raw.generation,
        asked=raw.asked,
    )


def _thawed(raw: _DemandJson) -> Demand:
    """By the rules for what people write: what came past admission may be anything."""
    request = DemandRequest(
        workload_type=raw.workload_type,
        priority=Priority(raw.priority),
        full=raw.full,
        floor=raw.floor,
        maximum=_quality(raw.maximum),
        minimum=_quality(raw.minimum),
        levels=tuple(Level(quality=_quality(level.quality), vram=level.vram) for level in raw.levels),
        gpu_count=raw.gpu_count,
        resize=raw.resize,
        shrink_grace=raw.shrink_grace,
    )
    # How low a type may go was decided when the demand was frozen, by the policy of that time.
    return resolve(request, defaults=DemandDefaults(minimum_quality={raw.workload_type: Fraction(0)}))


def _quality(text: str) -> Fraction:
    if _DECIMAL.fullmatch(text) is None:
        raise ValueError(f'quality "{text}" is no number.')
    return Fraction(text)


def encode_gpus(gpus: tuple[GpuUuid, ...]) -> str:
    """The value of the gpus annotation."""
    return ",".join(gpus)


def decode_gpus(text: str) -> tuple[GpuUuid, ...]:
    """GPU uuids, in the order in which they were chosen."""
    return tuple(GpuUuid(part) for part in text.split(",") if part)


class TargetGrant(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The decision for one pod as the node agent reads it: the value of the grant annotation, JSON with a version.

    `quality` is a decimal string in thousandths; `vram` is bytes per GPU; `revision` counts this pod's targets.
    """

    version: int = 1
    quality: Annotated[str, msgspec.Meta(pattern=f"^({_DECIMAL.pattern})$")]
    vram: Annotated[int, msgspec.Meta(ge=0)]
    revision: int
    pressure: MemoryPressure
    mode: str
    reason: str = ""


GRANT_VERSION = 1


def encode_grant(grant: TargetGrant) -> str:
    """The value of the grant annotation."""
    return msgspec.json.encode(grant).decode()


def decode_grant(text: str) -> TargetGrant:
    """What `encode_grant` wrote.

    Raises:
        InvalidAnnotationError: the text is none of ours, or of a version that this process does not know.
    """
    return _decode(GRANT, text, TargetGrant, version=GRANT_VERSION)


class Nomination(msgspec.Struct, frozen=True, kw_only=True):
    """Room that is kept for a waiting pod after others were evicted for it: the value of the nominated annotation."""

    version: int = 1
    node: NodeName
    gpus: tuple[GpuUuid, ...]
    until: Annotated[datetime, msgspec.Meta(tz=True)]


NOMINATION_VERSION = 1


def encode_nomination(nomination: Nomination) -> str:
    """The value of the nominated annotation: JSON with a version."""
    return msgspec.json.encode(nomination).decode()


def decode_nomination(text: str) -> Nomination:
    """What `encode_nomination` wrote.

    Raises:
        InvalidAnnotationError: the text is none of ours, or of a version that this process does not know.
    """
    return _decode(NOMINATED, text, Nomination, version=NOMINATION_VERSION)


_Versioned = TypeVar("_Versioned", TargetGrant, Nomination)


def _decode(key: str, text: str, kind: type[_Versioned], *, version: int) -> _Versioned:
    try:
        value = msgspec.json.decode(text, type=kind)
    except UNREADABLE as error:
        raise InvalidAnnotationError(f"{key} cannot be read: {error}.") from error
    if value.version != version:
        raise InvalidAnnotationError(f"{key} has version {value.version}; this process knows {version}.")
    return value


def target_annotations(grant: TargetGrant) -> dict[str, str]:
    """Every annotation that tells a pod's target, for one patch."""
    return {
        QUALITY_TARGET: grant.quality,
        VRAM_TARGET: format_mib(grant.vram),
        PRESSURE: grant.pressure.value,
        REVISION: str(grant.revision),
        GRANT: encode_grant(grant),
    }
