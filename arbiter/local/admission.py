"""Who may come in, and who would have to leave for it. Imports the core only."""

from dataclasses import replace
from fractions import Fraction

from arbiter.equilibrium import solve
from arbiter.ids import PodUid
from arbiter.local.book import Book
from arbiter.local.claim import GPU, Claim, Stage
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import ArbiterError, InsufficientQuality
from arbiter.local.room import shortage
from arbiter.policy import Policy
from arbiter.preemption import Candidate, victims


class Admission:
    """Decides by the book and changes nothing."""

    def __init__(self, book: Book, *, config: ArbiterConfig, policy: Policy) -> None:
        self._book = book
        self._config = config
        self._policy = policy

    def lack(
        self, claim: Claim, now: float, *, ahead: int = 0, gone: frozenset[PodUid] = frozenset()
    ) -> ArbiterError | None:
        """What the claim lacks once these are gone, with `ahead` bytes promised to those before it."""
        short = shortage(claim, self._book.room(now, ahead=ahead, gone=gone, with_held=not claim.waits))
        if short is not None or claim.promised is None:
            return short
        quality = self._quality(claim, now, gone=gone)
        if quality >= claim.promised:
            return None
        return InsufficientQuality(minimum=float(claim.promised), available=float(quality))

    def leavers(self, claim: Claim, now: float) -> tuple[PodUid, ...]:
        """Who has to leave so that the claim may come in; nobody where that would not be enough."""
        candidates = [
            Candidate(
                uid=other.uid, priority=other.demand.priority, size=self._book.promised(other), since=other.admitted_at
            )
            for other in self._book.in_stage(Stage.GATED, Stage.HOLDING)
        ]
        chosen = victims(
            candidates, newcomer=claim.demand.priority, fits=lambda gone: self.lack(claim, now, gone=gone) is None
        )
        return tuple(victim.uid for victim in chosen or ())

    def has_to_leave(self, victim: Claim, now: float) -> bool:
        """Whether somebody lacks the room of one that is counted as staying: who it leaves for, or who came later."""
        heir = self._book.claims.get(victim.leaving_for) if victim.leaving_for else None
        if heir is not None and heir.stage is Stage.GATED:
            return self.lack(heir, now, gone=frozenset({heir.uid})) is not None
        return self._book.room(now).promised > self._config.vram_budget

    def _quality(self, claim: Claim, now: float, *, gone: frozenset[PodUid]) -> Fraction:
        """What the claim would get by its type alone: its own promise counted, insisting would cost the others."""
        demand = replace(claim.demand, minimum=self._config.minimum_of(claim.demand.workload_type))
        others = [self._book.member(other) for other in self._book.with_room(now) if other.uid not in gone]
        newcomer = replace(claim.sharing, demand=demand)
        solved = solve({GPU: self._config.vram_budget}, [*others, newcomer], self._policy)
        return solved.targets[claim.uid].quality or demand.maximum
