"""Who has to leave so that somebody more important fits: as few as possible, and nobody in vain.

Pure. Imports the standard library only.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from arbiter.ids import PodUid
from arbiter.workload import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Somebody who holds memory: `size` bytes that are free once it left; `since`, in seconds of any clock."""

    uid: PodUid
    priority: Priority
    size: int
    since: float

    @property
    def order(self) -> tuple[int, float, PodUid]:
        """Who goes first: the lowest priority, then the youngest."""
        return self.priority.level, -self.since, self.uid


Fits = Callable[[frozenset[PodUid]], bool]
"""Whether the newcomer fits once these have left; who fits still does when more leave."""


def victims(candidates: Iterable[Candidate], *, newcomer: Priority, fits: Fits) -> tuple[Candidate, ...] | None:
    """The fewest that `newcomer` may preempt and whose leaving lets it fit; of equally few those that go first.

    None where all of them together are not enough: then nobody is asked to leave. Every one of the answer is needed.
    """
    lower = sorted((who for who in candidates if newcomer.may_preempt(who.priority)), key=lambda who: who.order)
    by_size = sorted(lower, key=lambda who: (-who.size, who.order))
    fewest = next((count for count in range(len(lower) + 1) if fits(_uids(by_size[:count]))), None)
    if fewest is None:
        return None
    chosen: list[Candidate] = []
    for who in lower:
        if len(chosen) == fewest:
            break
        rest = [other for other in by_size if other not in chosen and other is not who]
        if fits(_uids([*chosen, who, *rest[: fewest - len(chosen) - 1]])):
            chosen.append(who)
    return _needed(chosen, fits)


def _needed(chosen: Sequence[Candidate], fits: Fits) -> tuple[Candidate, ...]:
    """Without those whose leaving turns out to be in vain: sizes tell nearly, but not quite, what fits."""
    kept = list(chosen)
    for who in reversed(chosen):
        if fits(_uids([other for other in kept if other is not who])):
            kept.remove(who)
    return tuple(kept)


def _uids(who: Iterable[Candidate]) -> frozenset[PodUid]:
    return frozenset(one.uid for one in who)
