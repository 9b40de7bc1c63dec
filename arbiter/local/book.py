"""The claims on one GPU, and what is promised to them. Imports the core only."""

from collections.abc import Iterator
from dataclasses import replace

from arbiter.equilibrium import Member
from arbiter.ids import PodUid
from arbiter.local.claim import Claim, Stage
from arbiter.local.config import ArbiterConfig
from arbiter.local.room import Room
from arbiter.policy import Policy
from arbiter.transitions import Engine


class Book:
    """Claims by UID; `behind` are those who have not given back in time, with the bytes that they hold.

    It reads the engine and changes nothing. Times are seconds on the engine's clock.
    """

    def __init__(self, config: ArbiterConfig, *, policy: Policy, engine: Engine) -> None:
        self._config = config
        self._sizes_once = policy.sizes_once
        self._engine = engine
        self.claims: dict[PodUid, Claim] = {}
        self.behind: dict[PodUid, int] = {}

    def in_stage(self, *stages: Stage) -> list[Claim]:
        """The claims that stand there."""
        return [claim for claim in self.claims.values() if claim.stage in stages]

    def with_room(self, now: float) -> Iterator[Claim]:
        """Who counts: all who have room, but for those who are expected to leave it soon."""
        for claim in self.claims.values():
            if claim.stage is Stage.WAITING or (claim.stage is Stage.LEAVING and now < self.gone_by(claim)):
                continue
            yield claim

    def gone_by(self, claim: Claim) -> float:
        """Until when one that was told to leave is expected to do so."""
        return claim.leaving_since + self._config.shrink_grace

    def room(
        self, now: float, *, ahead: int = 0, gone: frozenset[PodUid] = frozenset(), with_held: bool = False
    ) -> Room:
        """What a claim finds once these are gone, with `ahead` bytes promised to those before it.

        What is held is worked out only where it is asked for.
        """
        others = [claim for claim in self.with_room(now) if claim.uid not in gone]
        return Room(
            capacity=self._config.vram_budget,
            promised=sum(self.promised(claim) for claim in others),
            held=sum(self._kept(claim) for claim in self.claims.values() if claim.uid not in gone) if with_held else 0,
            ahead=ahead,
            is_shared=any(not claim.is_background for claim in others),
        )

    def member(self, claim: Claim) -> Member:
        """The claim as the equilibrium counts it."""
        held = self._held_back(claim)
        return claim.sharing if held is None else replace(claim.sharing, held=held)

    def promised(self, claim: Claim) -> int:
        """Bytes that a claim keeps whatever happens: its floor, or what it holds where it does not give back."""
        held = self._held_back(claim)
        return claim.demand.floor if held is None else held

    def held(self, claim: Claim) -> int:
        """Bytes that its holder may use, or may still use."""
        status = self._engine.status(claim.uid)
        return 0 if status is None else status.held

    def owes(self, claim: Claim) -> bool:
        """Whether it was told to use less, or to leave, and may still use as much as before."""
        return claim.stage is Stage.LEAVING or (claim.grant is not None and self.held(claim) > claim.grant.vram)

    def qualities(self, *, is_llm: bool) -> list[float]:
        """Of the allocations of one system."""
        holding = self.in_stage(Stage.HOLDING, Stage.LEAVING)
        grants = [claim.grant for claim in holding if claim.demand.workload_type.is_llm == is_llm]
        return [float(grant.quality) for grant in grants if grant is not None]

    def _held_back(self, claim: Claim) -> int | None:
        """Bytes that a claim keeps whatever the price; None where it gives way."""
        if claim.uid in self.behind or (self._sizes_once and claim.stage is Stage.HOLDING):
            return max(claim.demand.floor, self.held(claim))
        return None

    def _kept(self, claim: Claim) -> int:
        """Bytes that nobody else can have at once."""
        return claim.demand.floor if claim.stage is Stage.GATED else self.held(claim)
