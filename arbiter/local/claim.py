"""A request from its arrival until its release, and what a holder is told. Imports the core only."""

from dataclasses import dataclass, field
from enum import Enum, auto
from fractions import Fraction

from arbiter.arguments import count, size
from arbiter.demand import Demand
from arbiter.equilibrium import Member, Target
from arbiter.ids import GpuUuid, PodUid
from arbiter.local.errors import ArbiterError
from arbiter.transitions import Grant, PodObserved
from arbiter.transitions import Target as Aim
from arbiter.workload import Priority

GPU = GpuUuid("gpu-0")
"""The one GPU that an Arbiter shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityTarget:
    """What a holder may use now, and where that is going; qualities 0..1 in thousandths, memory in bytes.

    `quality` and `memory` hold from now on where they are less, and are there to be used where they are more; `target`
    is the quality it is going to. `paused`: work of priority Background should pause, memory is tight. `preempted_by`:
    release the allocation, that request waits for its room. The `revision` rises with quality and memory, and
    `allocation` is the id of the one that it is of.

    Raises:
        ValueError: `memory` is no number of bytes, or `revision` no number.
    """

    allocation: str
    quality: float
    memory: int
    target: float
    minimum: float
    revision: int
    reason: str
    paused: bool = False
    preempted_by: str | None = None

    def __post_init__(self) -> None:
        size(self.memory, what="memory")
        count(self.revision, what="revision")

    @property
    def news(self) -> tuple[int, bool, str | None]:
        """What a holder has to act on; the rest may change without being worth a call."""
        return self.revision, self.paused, self.preempted_by


class Stage(Enum):
    """Where a claim stands."""

    WAITING = auto()
    """It has no room."""
    GATED = auto()
    """Its least memory is promised; others still give it back."""
    HOLDING = auto()
    """It has its allocation."""
    LEAVING = auto()
    """It has its allocation and was told to release it."""


@dataclass(slots=True, kw_only=True)
class Claim:
    """One request; times in seconds on the allocator's clock. `number` counts requests.

    `promised` is the quality that a rigid request insists on, `target` what the equilibrium decided last and `grant`
    what the holder was told last. `sharing` is the claim as the equilibrium counts it where it gives way.
    """

    uid: PodUid
    number: int
    demand: Demand
    promised: Fraction | None
    arrived_at: float
    patience: float | None
    stage: Stage = Stage.WAITING
    admitted_at: float = 0.0
    leaving_since: float = 0.0
    leaving_for: PodUid | None = None
    target: Target | None = None
    grant: Grant | None = None
    sharing: Member = field(init=False)

    def __post_init__(self) -> None:
        self.sharing = Member(uid=self.uid, demand=self.demand, gpus=(GPU,), name=self.uid)

    @property
    def waits(self) -> bool:
        """Whether it waits for room."""
        return self.patience is not None

    @property
    def deadline(self) -> float:
        """When it has waited for as long as it may."""
        return self.arrived_at + (self.patience or 0.0)

    @property
    def order(self) -> tuple[int, int]:
        """The order in which claims are served: the highest priority, then the earliest."""
        return -self.demand.priority.level, self.number

    @property
    def is_background(self) -> bool:
        """Whether it pauses, and waits, while memory is tight."""
        return self.demand.priority is Priority.BACKGROUND

    def observed(self) -> PodObserved:
        """As the transition engine sees it: one that was told to leave may yet stay."""
        target = self.target
        return PodObserved(
            uid=self.uid,
            name=self.uid,
            demand=self.demand,
            gpus=(GPU,),
            bound_at=float(self.number),
            target=None if target is None or target.quality is None else Aim(quality=target.quality, vram=target.vram),
        )

    def told(self, *, paused: bool) -> QualityTarget | None:
        """What its holder is told; None before it was granted anything."""
        grant = self.grant
        if grant is None:
            return None
        return QualityTarget(
            allocation=self.uid,
            quality=float(grant.quality),
            memory=grant.vram,
            target=float(grant.target),
            minimum=float(self.demand.minimum),
            revision=grant.revision,
            reason=grant.reason.value,
            paused=paused and self.is_background,
            preempted_by=self.leaving_for,
        )


@dataclass(frozen=True, slots=True)
class Granted:
    """The claim has its allocation."""

    uid: PodUid
    target: QualityTarget


@dataclass(frozen=True, slots=True)
class Changed:
    """A holder is told something else."""

    uid: PodUid
    target: QualityTarget


@dataclass(frozen=True, slots=True)
class Refused:
    """The claim has ended without an allocation."""

    uid: PodUid
    error: ArbiterError


Notice = Granted | Changed | Refused
