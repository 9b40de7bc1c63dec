"""What an Arbiter says about itself: the moment, the counts, and averages weighted by time. Imports the core only."""

from dataclasses import dataclass, field

from arbiter.workload import MemoryPressure


@dataclass(frozen=True, slots=True, kw_only=True)
class ArbiterState:
    """One moment. Sizes in bytes, qualities and pressure 0..1.

    `llm_quality` and `diffusion_quality` are the lowest that an allocation of the system has, 1 where there is none.
    `pressure` is the share of the budget that is promised: what could not be given back for somebody new. `price` is
    the equilibrium's (-1: nobody gives way, to 6). `vram_used` is what allocations may hold, lent bytes included,
    `vram_available` what a request may count on: nothing while the pressure is Critical and nothing new starts.
    """

    active_llm: int
    active_diffusion: int
    waiting: int
    llm_quality: float
    diffusion_quality: float
    pressure: float
    pressure_level: MemoryPressure
    price: float
    vram_used: int
    vram_available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArbiterStats:
    """Counts since the start, and averages over the time since then.

    `quality_reductions` counts the times that a holder's quality fell, `preemptions` those who were told to leave. The
    average quality of a system is the mean over its allocations, over the time for which it had any (1: it had none).
    """

    total_allocations: int = 0
    successful_allocations: int = 0
    failed_allocations: int = 0
    quality_reductions: int = 0
    preemptions: int = 0
    average_pressure: float = 0.0
    average_llm_quality: float = 1.0
    average_diffusion_quality: float = 1.0


@dataclass(slots=True)
class Average:
    """The mean of a value that holds from one moment to the next; None where it does not exist for a while."""

    value: float | None = None
    total: float = 0.0
    seconds: float = 0.0

    def advance(self, seconds: float) -> None:
        """The value has held for that long."""
        if self.value is not None:
            self.total += self.value * seconds
            self.seconds += seconds

    def mean(self, default: float) -> float:
        """Over the time for which there was a value; `default` where there was none."""
        return self.total / self.seconds if self.seconds else default


@dataclass(slots=True)
class Meter:
    """Counts and averages in the making; `at` is the time up to which it has averaged (s)."""

    at: float
    total: int = 0
    successful: int = 0
    failed: int = 0
    reductions: int = 0
    preemptions: int = 0
    pressure: Average = field(default_factory=lambda: Average(0.0))
    llm: Average = field(default_factory=Average)
    diffusion: Average = field(default_factory=Average)

    def advance(self, now: float) -> None:
        """What was measured last has held until `now`."""
        for average in (self.pressure, self.llm, self.diffusion):
            average.advance(now - self.at)
        self.at = now

    @property
    def stats(self) -> ArbiterStats:
        """All of it."""
        return ArbiterStats(
            total_allocations=self.total,
            successful_allocations=self.successful,
            failed_allocations=self.failed,
            quality_reductions=self.reductions,
            preemptions=self.preemptions,
            average_pressure=self.pressure.mean(0.0),
            average_llm_quality=self.llm.mean(1.0),
            average_diffusion_quality=self.diffusion.mean(1.0),
        )
