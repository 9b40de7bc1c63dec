"""One request for GPU memory: what it demands, and how it ended. Imports the core only."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from arbiter.calculator import exact
from arbiter.demand import SPEC_FIELDS, Demand, DemandDefaults, DemandRequest, Level, resolve
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import ArbiterError, InsufficientMemory, InsufficientQuality, Preempted, Timeout
from arbiter.workload import Priority, WorkloadType

if TYPE_CHECKING:
    from arbiter.local.allocation import Allocation

_FIELDS = {**SPEC_FIELDS, "full": "memory_required", "floor": "minimum_memory", "minimum": "minimum_quality"}
_FIELDS |= {"levels": "levels", "maximum": "quality", "shrink_grace": "shrink_grace"}

_BASE_TIMEOUT = ArbiterConfig().allocation_timeout

_Named = TypeVar("_Named", WorkloadType, Priority)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationRequest:
    """What somebody asks an Arbiter for; sizes in bytes, qualities 0..1, times in seconds.

    `memory_required` is wanted at full quality (None: what is typical of the type). With `minimum_memory`, or `levels`
    ((quality, bytes) each), the allocation can shrink down to there, and follows its target; without, its bytes are
    rigid and only the quality that it is asked for moves. `timeout` is how long to wait for room (None: by type and
    priority); `no_wait` does not.
    """

    workload_type: WorkloadType
    memory_required: int | None = None
    priority: Priority = Priority.NORMAL
    minimum_memory: int | None = None
    minimum_quality: float | None = None
    levels: tuple[tuple[float, int], ...] = ()
    timeout: float | None = None
    no_wait: bool = False

    @classmethod
    def of(
        cls,
        workload_type: WorkloadType | str,
        priority: Priority | str,
        memory_required: int | None = None,
        *,
        minimum_memory: int | None = None,
        minimum_quality: float | None = None,
        levels: Iterable[tuple[float, int]] = (),
        timeout: float | None = None,
        no_wait: bool = False,
    ) -> "AllocationRequest":
        """As people write it: type and priority may be names.

        Raises:
            ValueError: no such type or priority, or a timeout below 0.
        """
        return cls(
            workload_type=one_of(WorkloadType, workload_type),
            priority=one_of(Priority, priority),
            memory_required=memory_required,
            minimum_memory=minimum_memory,
            minimum_quality=minimum_quality,
            levels=tuple(levels),
            timeout=timeout,
            no_wait=no_wait,
        )

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout >= 0:
            raise ValueError(f"timeout should be 0 seconds or more, not {self.timeout}")

    @property
    def is_rigid(self) -> bool:
        """Whether its bytes stay as they are."""
        return self.minimum_memory is None and not self.levels

    @property
    def effective_minimum_quality(self) -> float:
        """The given least quality, else the type's."""
        given = self.minimum_quality
        return float(self.workload_type.defaults.minimum_quality) if given is None else given

    @property
    def effective_timeout(self) -> float | None:
        """How long it waits with default settings; None where it does not wait."""
        return self.patience(_BASE_TIMEOUT)

    def patience(self, allocation_timeout: float) -> float | None:
        """How long it waits where a language model of priority Normal waits `allocation_timeout` seconds."""
        if self.no_wait:
            return None
        usual = self.workload_type.timeout(self.priority) * allocation_timeout / _BASE_TIMEOUT
        return usual if self.timeout is None else self.timeout


def one_of(kind: type[_Named], name: _Named | str) -> _Named:
    """The type or priority of that name.

    Raises:
        ValueError: there is none.
    """
    try:
        return kind(name)
    except ValueError as error:
        names = ", ".join(str(member.value) for member in kind)
        raise ValueError(f'"{name}" is no {kind.__name__}; write one of {names}.') from error


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
        names=_FIELDS,
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
        return _OUTCOMES.get(type(self.answer), AllocationOutcome.SUCCESS)

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
