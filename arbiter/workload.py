"""Workload types, priorities, policy modes and levels of pressure, with the reference coordinator's figures.

Imports the standard library only. The figures are those of the coordinator that Arbiter carries to Kubernetes
(infernum-arbiter 0.2.0-rc.2).
"""

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum, StrEnum
from fractions import Fraction
from functools import total_ordering

from arbiter.units import GIB


class WorkloadType(StrEnum):
    """What runs in the container; it sets the default sizes and the least quality."""

    LLM_INFERENCE = "LlmInference"
    IMAGE_GENERATION = "ImageGeneration"
    VIDEO_GENERATION = "VideoGeneration"

    @property
    def is_llm(self) -> bool:
        """Whether the LLM system (Infernum) serves it; else the diffusion system (Dantalion) does."""
        return self is WorkloadType.LLM_INFERENCE

    @property
    def defaults(self) -> "WorkloadDefaults":
        """The figures that hold where nobody says otherwise."""
        return _WORKLOAD_DEFAULTS[self]

    def timeout(self, priority: "Priority") -> float:
        """Seconds for which it waits for room where nobody says otherwise."""
        return self.defaults.timeout * priority.timeout_multiplier


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadDefaults:
    """Figures of one workload type: qualities 0..1, memory in bytes, timeout in seconds before the priority's factor.

    `streams`: its output is used while it is being made, token by token or frame by frame.
    """

    minimum_quality: Fraction
    target_quality: Fraction = Fraction(1)
    typical_memory: int
    timeout: float
    streams: bool
    short_name: str


_WORKLOAD_DEFAULTS = {
    WorkloadType.LLM_INFERENCE: WorkloadDefaults(
        minimum_quality=Fraction("0.4"), typical_memory=8 * GIB, timeout=30.0, streams=True, short_name="llm"
    ),
    WorkloadType.IMAGE_GENERATION: WorkloadDefaults(
        minimum_quality=Fraction("0.3"), typical_memory=6 * GIB, timeout=60.0, streams=False, short_name="image"
    ),
    WorkloadType.VIDEO_GENERATION: WorkloadDefaults(
        minimum_quality=Fraction("0.25"), typical_memory=12 * GIB, timeout=120.0, streams=True, short_name="video"
    ),
}


@total_ordering
class Priority(Enum):
    """Five levels; values are the names that people write, order is by `level`."""

    BACKGROUND = "Background"
    LOW = "Low"
    NORMAL = "Normal"
    HIGH = "High"
    CRITICAL = "Critical"
    USER_FACING = "High"  # noqa: PIE796 - an alias on purpose: the user-facing level is High

    @classmethod
    def _missing_(cls, value: object) -> "Priority | None":
        return cls.HIGH if value == "UserFacing" else None

    def __lt__(self, other: "Priority") -> bool:
        return self.level < other.level

    @property
    def level(self) -> int:
        """0 (Background) to 4 (Critical)."""
        return _LEVELS[self]

    @property
    def quality_multiplier(self) -> Fraction:
        """Factor on the quality that the calculator gives."""
        return _QUALITY_MULTIPLIERS[self.level]

    @property
    def timeout_multiplier(self) -> float:
        """Factor on the workload type's timeout."""
        return _TIMEOUT_MULTIPLIERS[self.level]

    def may_preempt(self, other: "Priority") -> bool:
        """A gap of two levels is needed."""
        return self.level > other.level + 1


_LEVELS = {priority: level for level, priority in enumerate(Priority)}
_QUALITY_MULTIPLIERS = tuple(Fraction(figure) for figure in ("0.6", "0.8", "1", "1.1", "1.2"))
_TIMEOUT_MULTIPLIERS = (0.5, 0.75, 1.0, 1.5, 2.0)


class PolicyMode(StrEnum):
    """Whose quality the coordinator favours; Fixed sizes everybody once, at its start."""

    ADAPTIVE = "Adaptive"
    LLM_FIRST = "LlmFirst"
    DIFFUSION_FIRST = "DiffusionFirst"
    BALANCED = "Balanced"
    FIXED = "Fixed"


class Resize(StrEnum):
    """Whether a container's memory moves while it runs, or is set once at its start."""

    IN_PLACE = "InPlace"
    AT_START = "AtStart"


class MemoryPressure(StrEnum):
    """How tight memory is, as people see it: by the price of a GPU, or by the share of it that is used."""

    LOW = "Low"
    MODERATE = "Moderate"
    HIGH = "High"
    CRITICAL = "Critical"

    @classmethod
    def at(cls, utilisation: float) -> "MemoryPressure":
        """The level at this share of the capacity in use, 0..1; each level holds from its bound on."""
        return tuple(cls)[bisect_right(_BOUNDS, utilisation)]

    @property
    def quality_factor(self) -> Fraction:
        """Factor on a quality target at this level."""
        return _PRESSURE_FACTORS[self]

    @property
    def blocks_new_work(self) -> bool:
        """Whether nothing new may start."""
        return self is MemoryPressure.CRITICAL

    @property
    def pauses_background(self) -> bool:
        """Whether work of priority Background has to pause."""
        return self in (MemoryPressure.HIGH, MemoryPressure.CRITICAL)


_BOUNDS = (0.5, 0.75, 0.9)
"""Where Moderate, High and Critical begin."""

_PRESSURE_FACTORS = dict(zip(MemoryPressure, map(Fraction, ("1", "0.9", "0.7", "0.5")), strict=True))
