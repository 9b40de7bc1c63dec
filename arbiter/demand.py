"""A workload's demand: what it asked for, and what that means once every default is filled in.

A request holds what a person wrote; `resolve` turns it into a frozen demand or refuses it with one sentence.
Imports the standard library only.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from arbiter.units import MIB, format_bytes
from arbiter.workload import Priority, Resize, WorkloadType

QUALITY_STEP = Fraction(1, 1000)
"""Qualities are published, compared and frozen in thousandths."""

_THOUSANDTHS = tuple(step * QUALITY_STEP for step in range(1001))

DEFAULT_SHRINK_GRACE = 30.0

MAX_GPU_COUNT = 16


class InvalidDemandError(ValueError):
    """A demand that contradicts itself; the text names the field and says what to write instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One step of an engine that cannot run in between: quality 0..1 and bytes per GPU."""

    quality: Fraction
    vram: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandRequest:
    """What somebody asked for; `None` means "the default of the type". Bytes are per GPU, seconds for times."""

    workload_type: WorkloadType
    priority: Priority = Priority.NORMAL
    full: int | None = None
    floor: int | None = None
    maximum: Fraction = Fraction(1)
    minimum: Fraction | None = None
    levels: tuple[Level, ...] = ()
    gpu_count: int = 1
    resize: Resize = Resize.IN_PLACE
    shrink_grace: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A request with nothing left open: `floor` bytes at quality `minimum`, `full` bytes at quality `maximum`.

    Bytes are per GPU, qualities whole thousandths. Where `levels` are given they are ascending and run from (minimum,
    floor) to (maximum, full). Fractions have no part in the hash: they hash slowly, and the rest tells most demands
    apart.

    Raises:
        InvalidDemandError: sizes or qualities that none can have; `resolve` makes demands from what people write.
    """

    workload_type: WorkloadType
    priority: Priority
    full: int
    floor: int
    maximum: Fraction = field(hash=False)
    minimum: Fraction = field(hash=False)
    levels: tuple[Level, ...] = field(default=(), hash=False)
    gpu_count: int = 1
    resize: Resize = Resize.IN_PLACE
    shrink_grace: float = DEFAULT_SHRINK_GRACE

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= self.full:
            raise InvalidDemandError(f"0 <= floor <= full must hold, they are {self.floor} and {self.full} bytes.")
        if not 0 <= self.minimum <= self.maximum <= 1:
            raise InvalidDemandError(
                f"0 <= minimum <= maximum <= 1 must hold, they are {self.minimum} and {self.maximum}."
            )
        for name, quality in (("minimum", self.minimum), ("maximum", self.maximum)):
            # What is published is rounded down to thousandths, so that another minimum would be undercut.
            if 1000 % quality.denominator:
                raise InvalidDemandError(f"{name} must be a whole number of thousandths, it is {quality}.")

    @property
    def is_fixed(self) -> bool:
        """Whether its quality never moves."""
        return self.minimum == self.maximum

    def memory(self, quality: Fraction) -> Fraction:
        """Bytes per GPU at `quality`, exact: linear between floor and full, or the largest level not above it."""
        if self.is_fixed:
            return Fraction(self.full)
        if self.levels:
            return Fraction(self._level(quality).vram)
        return Fraction(*self._memory_ratio(quality))

    def published(self, quality: Fraction) -> tuple[Fraction, int]:
        """Quality and bytes as they are told: quality down to thousandths, then bytes down to MiB, not below floor."""
        if self.levels:
            level = self._level(quality)
            return level.quality, level.vram
        rounded = _THOUSANDTHS[thousandths(quality)]
        if self.floor == self.full or self.is_fixed:
            return rounded, max(self.floor, self.full // MIB * MIB)
        size, unit = self._memory_ratio(rounded)
        return rounded, max(self.floor, size // unit // MIB * MIB)

    def _level(self, quality: Fraction) -> Level:
        """The largest level not above `quality`."""
        return next((level for level in reversed(self.levels) if level.quality <= quality), self.levels[0])

    def _memory_ratio(self, quality: Fraction) -> tuple[int, int]:
        """Bytes at `quality` as numerator and denominator: one division at the end instead of one in every step."""
        q, per_q = quality.as_integer_ratio()
        low, per_low = self.minimum.as_integer_ratio()
        high, per_high = self.maximum.as_integer_ratio()
        share, unit = (q * per_low - low * per_q) * per_high, per_q * (high * per_low - low * per_high)
        return self.floor * unit + share * (self.full - self.floor), unit

    def fitting(self, vram: int, *, at_most: Fraction | None = None) -> tuple[Fraction, int]:
        """The inverse of `published`: the largest quality up to `at_most` whose bytes fit into `vram`, with its bytes.

        Never below the floor, whatever `vram` and `at_most` are.
        """
        lowest = _thousandths_up(self.minimum)
        highest = thousandths(self.maximum if at_most is None else min(at_most, self.maximum))
        qualities = range(lowest, max(lowest, highest) + 1)
        best = self.published(_THOUSANDTHS[qualities[-1]])
        if best[1] <= vram:
            return best
        fits = bisect_right(qualities, vram, key=lambda step: self.published(_THOUSANDTHS[step])[1])
        return self.published(_THOUSANDTHS[qualities[max(0, fits - 1)]])


FieldNames = Mapping[str, str]
"""How the writer of a request calls each field, for sentences that they can act on."""

SPEC_FIELDS: FieldNames = {
    "full": "spec.vram.full",
    "floor": "spec.vram.floor",
    "levels": "spec.vram.levels",
    "maximum": "spec.quality.maximum",
    "minimum": "spec.quality.minimum",
    "gpu_count": "spec.gpuCount",
    "shrink_grace": "spec.shrinkGrace",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandDefaults:
    """What the policy in force adds to a request: least quality by type (0..1) and shrink grace (s)."""

    minimum_quality: Mapping[WorkloadType, Fraction] = field(default_factory=dict)
    shrink_grace: float = DEFAULT_SHRINK_GRACE

    def minimum_of(self, workload_type: WorkloadType) -> Fraction:
        """The least quality that this type may run at."""
        return self.minimum_quality.get(workload_type, workload_type.defaults.minimum_quality)


NO_POLICY = DemandDefaults()


def round_down(quality: Fraction) -> Fraction:
    """Quality in whole thousandths, not above `quality`."""
    return Fraction(thousandths(quality), 1000)


def format_quality(quality: Fraction) -> str:
    """Three decimals, as in annotations: ``0.904``."""
    return f"{float(quality):.3f}"


def resolve(request: DemandRequest, *, defaults: DemandDefaults = NO_POLICY, names: FieldNames = SPEC_FIELDS) -> Demand:
    """The demand that a request stands for.

    Raises:
        InvalidDemandError: the request contradicts itself or its type; the text names the field by `names`.
    """
    _check_ranges(request, names)
    full = request.full if request.full is not None else request.workload_type.defaults.typical_memory
    maximum = round_down(request.maximum)
    floor, minimum = _floor_and_minimum(
        request, full=full, maximum=maximum, least=defaults.minimum_of(request.workload_type), names=names
    )
    levels = _complete_levels(
        request.levels,
        first=Level(quality=minimum, vram=floor),
        last=Level(quality=maximum, vram=full),
        names=names,
    )
    return Demand(
        workload_type=request.workload_type,
        priority=request.priority,
        full=full,
        floor=floor,
        maximum=maximum,
        minimum=minimum,
        levels=levels,
        gpu_count=request.gpu_count,
        resize=request.resize,
        shrink_grace=request.shrink_grace if request.shrink_grace is not None else defaults.shrink_grace,
    )


def _check_ranges(request: DemandRequest, names: FieldNames) -> None:
    for key, size in (("full", request.full), ("floor", request.floor)):
        if size is not None and size <= 0:
            raise InvalidDemandError(f"{names[key]} must be above 0, it is {format_bytes(size)}.")
    for key, quality in (("maximum", request.maximum), ("minimum", request.minimum)):
        if quality is not None and not 0 < quality <= 1:
            raise InvalidDemandError(f"{names[key]} must be above 0 and at most 1, it is {float(quality):g}.")
    if not 1 <= request.gpu_count <= MAX_GPU_COUNT:
        raise InvalidDemandError(f"{names['gpu_count']} must be 1 to {MAX_GPU_COUNT}, it is {request.gpu_count}.")
    if request.shrink_grace is not None and request.shrink_grace < 0:
        raise InvalidDemandError(f"{names['shrink_grace']} must not be negative, it is {request.shrink_grace:g}s.")


def _floor_and_minimum(
    request: DemandRequest, *, full: int, maximum: Fraction, least: Fraction, names: FieldNames
) -> tuple[int, Fraction]:
    kind = request.workload_type
    if request.floor is not None and request.floor > full:
        raise InvalidDemandError(
            f"floor {format_bytes(request.floor)} is larger than full {format_bytes(full)}; "
            f"lower {names['floor']} or raise {names['full']}."
        )
    if maximum < least:
        raise InvalidDemandError(
            f"{names['maximum']} {format_quality(maximum)} is below {format_quality(least)}, "
            f"the least quality of {kind}; raise it or leave it out."
        )
    if request.minimum is not None and request.minimum < least:
        raise InvalidDemandError(
            f"{names['minimum']} {format_quality(request.minimum)} is below {format_quality(least)}, "
            f"the least quality of {kind}; raise it or leave it out."
        )
    if request.minimum is not None and request.minimum > maximum:
        raise InvalidDemandError(
            f"{names['minimum']} {format_quality(request.minimum)} is above "
            f"{names['maximum']} {format_quality(maximum)}; lower the minimum or raise the maximum."
        )
    if request.floor == full or (request.floor is None and request.resize is Resize.AT_START):
        return full, maximum
    if request.minimum is not None:
        minimum = min(maximum, _round_up(request.minimum))
    elif request.floor is not None:
        # Down, so that a floor just below full keeps a minimum below the maximum.
        minimum = max(_round_up(least), round_down(maximum * Fraction(request.floor, full)))
    else:
        minimum = _round_up(least)
    if minimum < maximum:
        return request.floor or _default_floor(full, minimum / maximum), minimum
    if request.floor is None:
        return full, maximum
    raise InvalidDemandError(
        f"at one quality, {format_quality(maximum)}, floor {format_bytes(request.floor)} and full "
        f"{format_bytes(full)} must be equal; lower {names['minimum']} or leave out {names['floor']}."
    )


def _default_floor(full: int, share: Fraction) -> int:
    floor = math.floor(full * share)
    return floor // MIB * MIB if floor >= MIB else max(1, floor)


def _round_up(quality: Fraction) -> Fraction:
    return Fraction(_thousandths_up(quality), 1000)


def thousandths(quality: Fraction) -> int:
    """How many whole thousandths a quality has."""
    numerator, denominator = quality.as_integer_ratio()
    return numerator * 1000 // denominator


def _thousandths_up(quality: Fraction) -> int:
    return -thousandths(-quality)


def _complete_levels(given: tuple[Level, ...], *, first: Level, last: Level, names: FieldNames) -> tuple[Level, ...]:
    if not given:
        return ()
    if first == last:
        raise InvalidDemandError(
            f"{names['levels']} need a floor below full {format_bytes(last.vram)}; "
            f"write a lower {names['floor']} or leave the levels out."
        )
    inner = [Level(quality=round_down(level.quality), vram=level.vram) for level in given]
    levels = [first, *(level for level in inner if level not in (first, last)), last]
    for below, above in pairwise(levels):
        if not (below.quality < above.quality and below.vram < above.vram):
            raise InvalidDemandError(
                f"{names['levels']} must rise from quality {format_quality(first.quality)} "
                f"at {format_bytes(first.vram)} to {format_quality(last.quality)} at {format_bytes(last.vram)}; "
                f"{format_quality(above.quality)} at {format_bytes(above.vram)} follows "
                f"{format_quality(below.quality)} at {format_bytes(below.vram)}."
            )
    return tuple(levels)
