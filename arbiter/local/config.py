"""How an Arbiter is set up: budget, least qualities, whom to favour, times. Imports the core only."""

from dataclasses import dataclass, replace
from fractions import Fraction

from arbiter.arguments import clamped, finite, flag, one_of, seconds, size
from arbiter.calculator import exact
from arbiter.coordinator import CoordinatorConfig
from arbiter.detection import GpuDetectionResult, GpuDetector
from arbiter.policy import Policy
from arbiter.units import GIB
from arbiter.workload import PolicyMode, WorkloadType

_UNDETECTED = 8 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ArbiterConfig:
    """Defaults are the reference's. Budgets in bytes, qualities and the threshold 0..1 (clamped), times in seconds.

    `vram_budget` is the usable memory of one GPU; `ram_budget` is what a fragment cache may take of main memory.
    `pressure_threshold` is the share of the budget that is used before anybody gives way. `allocation_timeout` is how
    long a language model of priority Normal waits; other types and priorities wait in proportion (images twice,
    videos four times as long; Background half, Critical twice). `shrink_grace` is how long a holder may take to give
    bytes back, `restore_interval` the least mean time between two grows of one allocation.
    """

    vram_budget: int = 20 * GIB
    ram_budget: int = 64 * GIB
    llm_min_quality: float = 0.4
    diffusion_min_quality: float = 0.3
    adaptive: bool = True
    policy: PolicyMode = PolicyMode.ADAPTIVE
    pressure_threshold: float = 0.85
    allocation_timeout: float = 30.0
    shrink_grace: float = 30.0
    restore_interval: float = 10.0

    def __post_init__(self) -> None:
        for name in ("llm_min_quality", "diffusion_min_quality", "pressure_threshold"):
            object.__setattr__(self, name, clamped(getattr(self, name), what=name))
        for name in ("vram_budget", "ram_budget"):
            size(getattr(self, name), what=name)
        for name in ("allocation_timeout", "shrink_grace", "restore_interval"):
            object.__setattr__(self, name, seconds(getattr(self, name), what=name))
        finite(self.restore_interval, what="restore_interval")
        object.__setattr__(self, "policy", one_of(PolicyMode, self.policy))
        flag(self.adaptive, what="adaptive")

    @classmethod
    def for_vram_gb(cls, gigabytes: float) -> "ArbiterConfig":
        """So many GiB of VRAM, the rest default."""
        return cls(vram_budget=int(exact(finite(gigabytes, what="gigabytes")) * GIB))

    @classmethod
    def auto_detect(cls) -> "ArbiterConfig":
        """`from_detection` of this machine's GPUs."""
        return cls.from_detection(GpuDetector().detect())

    @classmethod
    def from_detection(cls, result: GpuDetectionResult) -> "ArbiterConfig":
        """90 % of the largest GPU and four times as much RAM as it has VRAM; as of 8 GiB where there is no GPU.

        One budget is one GPU: bytes of several GPUs do not add up to one allocation.
        """
        detected = max((gpu.vram_total for gpu in result.gpus), default=_UNDETECTED)
        return cls(vram_budget=detected * 9 // 10, ram_budget=4 * detected)

    @classmethod
    def llm_first(cls) -> "ArbiterConfig":
        """Favours language models."""
        return cls().coordinated(CoordinatorConfig.llm_first())

    @classmethod
    def diffusion_first(cls) -> "ArbiterConfig":
        """Favours images and videos."""
        return cls().coordinated(CoordinatorConfig.diffusion_first())

    @classmethod
    def balanced(cls) -> "ArbiterConfig":
        """Favours nobody."""
        return cls().coordinated(CoordinatorConfig.balanced())

    def coordinated(self, preset: CoordinatorConfig) -> "ArbiterConfig":
        """This budget and these times with another coordinator's least qualities and policy."""
        return replace(
            self,
            llm_min_quality=preset.llm_min_quality,
            diffusion_min_quality=preset.diffusion_min_quality,
            adaptive=preset.adaptive,
            policy=preset.policy,
        )

    def minimum_of(self, workload_type: WorkloadType) -> Fraction:
        """The least quality of this type, exact."""
        return exact(self.llm_min_quality if workload_type.is_llm else self.diffusion_min_quality)

    @property
    def quality_policy(self) -> Policy:
        """The same in the words of the equilibrium and the transition engine.

        Nothing keeps still for a start: a holder can resize from its start on.
        """
        return Policy(
            mode=self.policy,
            adaptive=self.adaptive,
            pressure_threshold=exact(self.pressure_threshold),
            shrink_grace=self.shrink_grace,
            start_window=0.0,
            restore_interval=self.restore_interval,
        )
