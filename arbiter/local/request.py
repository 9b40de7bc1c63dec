"""One request for GPU memory: what it demands, and how it ended. Imports the core only."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from arbiter.arguments import finite, flag, one_of, seconds, size
from arbiter.calculator import exact
from arbiter.demand import SPEC_FIELDS, Demand, DemandDefaults, DemandRequest, Level, resolve
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import ArbiterError, InsufficientMemory, InsufficientQuality, Preempted, Timeout
from arbiter.workload import Priority, WorkloadType

if TYPE_CHECKING:
    from arbiter.local.allocation import Allocation

_FIELDS = {**SPEC_FIELDS, "full": "memory_required", "floor": "minimum_memory", "minimum": "minimum_quality"}
_FIELDS |= {"levels": "levels", "maximum": "quality", "shrink_grace": "shrink_grace"}
_LEAST_LEVEL = {**_FIELDS, "floor": "the least level's size", "minimum": "the least level's quality"}

_BASE_TIMEOUT = ArbiterConfig().allocation_timeout
_PAIR = 2


@dataclass(frozen=True, slots=True, init=False)
class AllocationRequest:
    """What somebody asks an Arbiter for; sizes in bytes, qualities 0..1, times in seconds.

    `memory_required` is wanted at full quality (None: what is typical of the type). With `minimum_memory`, or `levels`
    ((quality, bytes) each), the allocation can shrink down to there, and follows its target; without, its bytes are
    rigid and only the quality that it is asked for moves. `timeout` is how long to wait for room (None: by type and
    priority); `no_wait` does not. Names of a type and a priority are taken for them.

    Raises:
        ValueError: an argument is nothing that anybody could have; the text names it.
    """

    workload_type: WorkloadType
    priority: Priority
    memory_required: int | None
    minimum_memory: int | None
    minimum_quality: float | None
    levels: tuple[tuple[float, int], ...]
    timeout: float | None
    no_wait: bool

    def __init__(
        self,
        workload_type: WorkloadType | str,
        priority: Priority | str = Priority.NORMAL,
        memory_required: int | None = None,
        *,
        minimum_memory: int | None = None,
        minimum_quality: float | None = None,
        levels: Iterable[tuple[float, int]] = (),
        timeout: float | None = None,
        no_wait: bool = False,
    ) -> None:
        checked = {
            "workload_type": one_of(WorkloadType, workload_type),
            "priority": one_of(Priority, priority),
            "memory_required": None if memory_required is None else size(memory_required, what="memory_required"),
            "minimum_memory": None if minimum_memory is None else size(minimum_memory, what="minimum_memory"),
            "minimum_quality": None if minimum_quality is None else finite(minimum_quality, what="minimum_quality"),
            "levels": _levels(levels),
            "timeout": None if timeout is None else seconds(timeout, what="timeout"),
            "no_wait": flag(no_wait, what="no_wait"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def is_rigid(self) -> bool:
        """Whether its bytes stay as they are."""
        return self.minimum_memory is None and not self.levels

    def effective_minimum_quality(self, config: ArbiterConfig) -> float:
        """The given least quality, else the one that an Arbiter of this configuration has for the type."""
        least = config.minimum_of(self.workload_type)
        return float(least) if self.minimum_quality is None else self.minimum_quality

    def effective_timeout(self, config: ArbiterConfig) -> float | None:
        """Seconds for which it waits at an Arbiter of this configuration; None where it does not wait."""
        if self.no_wait:
            return None
        usual = self.workload_type.timeout(self.priority) * config.allocation_timeout / _BASE_TIMEOUT
        return usual if self.timeout is None else self.timeout


def _levels(told: object) -> tuple[tuple[float, int], ...]:
    if not isinstance(told, Iterable):
        raise ValueError(f"levels should be pairs of quality and bytes, such as [(0.5, 3 * GIB)], not {told!r}.")
    return tuple(_level(level) for level in told)


def _level(told: object) -> tuple[float, int]:
    if not isinstance(told, tuple | list) or len(told) != _PAIR:
        raise ValueError(f"levels should be pairs of quality and bytes, such as (0.5, 3 * GIB), not {told!r}.")
    return finite(told[0], what="the quality of a level"), size(told[1], what="the size of a level")


@lru_cache(maxsize=1024)
def demand_of(request: AllocationRequest, config: ArbiterConfig) -> Demand:
    """The demand that a request stands for.

    Raises:
        InvalidDemandError: the request contradicts itself or its type; the text names the argument.
    """
    levels = tuple(Level(quality=exact(quality), vram=vram) for quality, vram in sorted(request.levels))
    lowest = levels[0] if levels and request.minimum_memory is None else None
    minimum = lowest.quality if lowest else None
    demand = resolve(
        DemandRequest(
            workload_type=request.workload_type,
            priority=request.priority,
            full=request.memory_required,
            floor=lowest.vram if lowest else request.minimum_memory,
            minimum=minimum if request.minimum_quality is None else exact(request.minimum_quality),
            levels=levels,
            shrink_grace=config.shrink_grace,
        ),
        defaults=DemandDefaults(minimum_quality={kind: config.minimum_of(kind) for kind in WorkloadType}),
        names=_LEAST_LEVEL if lowest else _FIELDS,
    )
    return replace(demand, floor=demand.full) if request.is_rigid else demand


def promised_quality(request: AllocationRequest, config: ArbiterConfig) -> Fraction | None:
    """The quality without which a rigid request is not admitted; None where its bytes, or its type, answer for it."""
    if not request.is_rigid or request.minimum_quality is None:
        return None
    asked = exact(request.minimum_quality)
    return asked if asked > config.minimum_of(request.workload_type) else None


class AllocationOutcome(StrEnum):
    """How a request ended."""

    SUCCESS = "Success"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    INSUFFICIENT_QUALITY = "InsufficientQuality"
    TIMEOUT = "Timeout"
    PREEMPTED = "Preempted"


_OUTCOMES: dict[type[object], AllocationOutcome] = {
    InsufficientMemory: AllocationOutcome.INSUFFICIENT_MEMORY,
    InsufficientQuality: AllocationOutcome.INSUFFICIENT_QUALITY,
    Timeout: AllocationOutcome.TIMEOUT,
    Preempted: AllocationOutcome.PREEMPTED,
}


@dataclass(frozen=True, slots=True)
class AllocationResult:
    """How a request ended: with an allocation, or with the error that says why not."""

    answer: "Allocation | ArbiterError"

    @property
    def outcome(self) -> AllocationOutcome:
        """In one word."""
        return _OUTCOMES[type(self.answer)] if isinstance(self.answer, ArbiterError) else AllocationOutcome.SUCCESS

    @property
    def error(self) -> ArbiterError | None:
        """Why there is no allocation; None where there is one."""
        return self.answer if isinstance(self.answer, ArbiterError) else None

    def unwrap(self) -> "Allocation":
        """The allocation.

        Raises:
            ArbiterError: there is none.
        """
        if isinstance(self.answer, ArbiterError):
            raise self.answer
        return self.answer
