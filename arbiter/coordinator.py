"""The reference's coordinator: whose quality a policy favours, by type, priority and pressure alone.

Imports the standard library only. It answers what somebody asks; what really runs on a GPU is shared out by the
equilibrium, whose curves are made of the same formula and which knows how many bytes a quality needs.
"""

from dataclasses import dataclass
from fractions import Fraction

from arbiter.arguments import clamped, flag, one_of
from arbiter.calculator import QualityCalculator, exact, value_at
from arbiter.formula import coordinated_quality
from arbiter.policy import Policy
from arbiter.workload import PolicyMode, Priority, WorkloadType

_SHARES = {
    PolicyMode.LLM_FIRST: ("0.9", "0.7"),
    PolicyMode.DIFFUSION_FIRST: ("0.7", "0.9"),
    PolicyMode.BALANCED: ("0.8", "0.75"),
    PolicyMode.ADAPTIVE: ("0.8", "0.75"),
}
"""What the language models and the diffusion models keep, of what pressure leaves, where both are active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorConfig:
    """Least qualities (0..1, clamped) and whom to favour; `adaptive` False is as the policy Fixed."""

    llm_min_quality: float = 0.4
    diffusion_min_quality: float = 0.3
    adaptive: bool = True
    policy: PolicyMode = PolicyMode.ADAPTIVE

    def __post_init__(self) -> None:
        for name in ("llm_min_quality", "diffusion_min_quality"):
            object.__setattr__(self, name, clamped(getattr(self, name), what=name))
        object.__setattr__(self, "policy", one_of(PolicyMode, self.policy))
        flag(self.adaptive, what="adaptive")

    @classmethod
    def llm_first(cls) -> "CoordinatorConfig":
        """Favours language models."""
        return cls(llm_min_quality=0.6, diffusion_min_quality=0.25, policy=PolicyMode.LLM_FIRST)

    @classmethod
    def diffusion_first(cls) -> "CoordinatorConfig":
        """Favours images and videos."""
        return cls(llm_min_quality=0.35, diffusion_min_quality=0.5, policy=PolicyMode.DIFFUSION_FIRST)

    @classmethod
    def balanced(cls) -> "CoordinatorConfig":
        """Favours nobody."""
        return cls(diffusion_min_quality=0.35, policy=PolicyMode.BALANCED)


@dataclass(frozen=True, slots=True)
class QualitySuggestion:
    """Qualities (0..1) for all language models and for all diffusion models."""

    llm: float
    diffusion: float


@dataclass(frozen=True, slots=True)
class Coordinator:
    """Answers by its configuration alone; it keeps no account of who runs."""

    config: CoordinatorConfig = CoordinatorConfig()

    def calculate_quality(self, workload_type: WorkloadType | str, priority: Priority | str, pressure: float) -> float:
        """The quality (0..1) of one workload at `pressure` (share of memory in use, held to 0..1).

        The calculator's answer for the default budget, then the policy's, then held to the type's minimum and 1.

        Raises:
            ValueError: there is no such type or priority, or `pressure` is no number.
        """
        kind, calculator = one_of(WorkloadType, workload_type), self._calculator
        calculated = calculator.curve(kind, one_of(Priority, priority))
        coordinated = coordinated_quality(calculated, kind, self._policy)
        return value_at(coordinated.clamp(calculator.minimum(kind), Fraction(1)), pressure)

    def suggest_rebalance(self, llm_active: int, diffusion_active: int, pressure: float) -> QualitySuggestion:
        """Qualities for both systems with so many workloads active: full for both unless both are."""
        if min(llm_active, diffusion_active) <= 0 or self._policy.sizes_once:
            return QualitySuggestion(1.0, 1.0)
        left = 1 - Fraction("0.3") * exact(clamped(pressure, what="pressure"))
        llm, diffusion = (float(Fraction(part) * left) for part in _SHARES[self.config.policy])
        return QualitySuggestion(
            max(llm, self.config.llm_min_quality), max(diffusion, self.config.diffusion_min_quality)
        )

    @property
    def _policy(self) -> Policy:
        return Policy(mode=self.config.policy, adaptive=self.config.adaptive)

    @property
    def _calculator(self) -> QualityCalculator:
        return QualityCalculator(
            llm_min_quality=self.config.llm_min_quality, diffusion_min_quality=self.config.diffusion_min_quality
        )
