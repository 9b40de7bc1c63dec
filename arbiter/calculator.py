"""Quality by figures: what an allocation may be reduced to, what each type is granted, and the calculator's formula.

Imports the standard library only. Qualities are floats from 0 to 1 here, each the double nearest to the exact result
for the decimals that went in; the tables are those of infernum-arbiter 0.2.0-rc.2.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

from arbiter.arguments import clamped, flag, one_of
from arbiter.formula import calculated_quality
from arbiter.piecewise import Piecewise
from arbiter.workload import MemoryPressure, Priority, WorkloadType


def exact(value: float) -> Fraction:
    """The decimal that people mean by a finite float: 0.3 is 3/10."""
    return Fraction(str(value))


@dataclass(frozen=True, slots=True)
class QualityAllocation:
    """A quality target and the least that it may be reduced to, both 0..1; one that is not `adjustable` is fixed.

    Values outside are clamped, and the minimum to at most the target.
    """

    target: float = 1.0
    minimum: float = 0.4
    adjustable: bool = True

    def __post_init__(self) -> None:
        target = clamped(self.target, what="target")
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "minimum", min(clamped(self.minimum, what="minimum"), target))
        flag(self.adjustable, what="adjustable")

    @property
    def viable(self) -> bool:
        """Whether the target reaches the minimum."""
        return self.target >= self.minimum

    def reduce(self, factor: float) -> "QualityAllocation":
        """The target times `factor` (0..1), never below the minimum; a fixed one stays as it is."""
        if not self.adjustable:
            return self
        reduced = float(exact(self.target) * exact(clamped(factor, what="factor")))
        return replace(self, target=max(reduced, self.minimum))


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityBudget:
    """What each type of workload is granted; without arguments, everybody full quality down to the type's minimum."""

    llm: QualityAllocation = QualityAllocation(1.0, 0.4)
    image: QualityAllocation = QualityAllocation(1.0, 0.3)
    video: QualityAllocation = QualityAllocation(1.0, 0.25)

    @classmethod
    def llm_first(cls) -> "QualityBudget":
        """Language models keep quality, images and videos give way."""
        return cls(
            llm=QualityAllocation(1.0, 0.6), image=QualityAllocation(0.8, 0.3), video=QualityAllocation(0.7, 0.25)
        )

    @classmethod
    def diffusion_first(cls) -> "QualityBudget":
        """Images and videos keep quality, language models give way."""
        return cls(
            llm=QualityAllocation(0.8, 0.4), image=QualityAllocation(1.0, 0.5), video=QualityAllocation(1.0, 0.4)
        )

    @classmethod
    def balanced(cls) -> "QualityBudget":
        """Everybody gives way a little from the start."""
        return cls(
            llm=QualityAllocation(0.85, 0.4), image=QualityAllocation(0.85, 0.3), video=QualityAllocation(0.85, 0.25)
        )

    def of(self, workload_type: WorkloadType | str) -> QualityAllocation:
        """What this type is granted.

        Raises:
            ValueError: there is no such type.
        """
        return {
            WorkloadType.LLM_INFERENCE: self.llm,
            WorkloadType.IMAGE_GENERATION: self.image,
            WorkloadType.VIDEO_GENERATION: self.video,
        }[one_of(WorkloadType, workload_type)]

    def apply_pressure(self, level: MemoryPressure | str) -> "QualityBudget":
        """Each reduced by the level's factor.

        Raises:
            ValueError: there is no such level.
        """
        factor = float(one_of(MemoryPressure, level).quality_factor)
        return QualityBudget(
            llm=self.llm.reduce(factor), image=self.image.reduce(factor), video=self.video.reduce(factor)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityCalculator:
    """Quality from a type, a priority and the pressure. Minimums are 0..1."""

    budget: QualityBudget = QualityBudget()
    llm_min_quality: float = 0.4
    diffusion_min_quality: float = 0.3

    def calculate(self, workload_type: WorkloadType | str, priority: Priority | str, pressure: float) -> float:
        """Budget target x (1 - 0.5 x pressure) x the priority's factor, at least the minimum, then at most 1.

        `pressure` is the share of memory in use, held to 0..1.

        Raises:
            ValueError: there is no such type or priority, or `pressure` is no number.
        """
        return value_at(self.curve(one_of(WorkloadType, workload_type), one_of(Priority, priority)), pressure)

    def curve(self, workload_type: WorkloadType, priority: Priority) -> Piecewise:
        """`calculate` over all pressures, exact."""
        return calculated_quality(
            priority, minimum=self.minimum(workload_type), target=exact(self.budget.of(workload_type).target)
        )

    def minimum(self, workload_type: WorkloadType) -> Fraction:
        """The least quality of this type, exact."""
        return exact(
            clamped(self.llm_min_quality if workload_type.is_llm else self.diffusion_min_quality, what="minimum")
        )


def value_at(curve: Piecewise, pressure: float) -> float:
    """The float nearest to a curve's value at `pressure`, which is held to 0..1."""
    return float(curve(exact(clamped(pressure, what="pressure"))))
