"""Who runs on the nodes, by kind: those are to be expected. Imports the standard library only."""

from collections import Counter
from collections.abc import Iterable, Mapping

from arbiter.placement.load import GpuLoad, Kind

TYPICAL = 0.95
"""The share of newcomers that the most frequent kinds make up; the rest is not looked at.

As in Weng et al., "Beware of Fragmentation", USENIX ATC 2023.
"""


class Census:
    """Counts the members of GPUs; a member of several is counted on each."""

    def __init__(self) -> None:
        self._seats: Counter[Kind] = Counter()
        self.changes = 0
        """How many GPUs came, went or changed since somebody set this to 0."""

    def replace(self, before: Iterable[GpuLoad], after: Iterable[GpuLoad]) -> None:
        """GPUs come in the place of others; those that are the same objects stay."""
        gone, come = {id(gpu): gpu for gpu in before}, {id(gpu): gpu for gpu in after}
        for gpu in gone.values():
            if id(gpu) not in come:
                self.changes += 1
                for kind in gpu.kinds:
                    self._seats[kind] -= 1
                    if not self._seats[kind]:
                        del self._seats[kind]
        for gpu in come.values():
            if id(gpu) not in gone:
                self.changes += 1
                for kind in gpu.kinds:
                    self._seats[kind] += 1

    def members(self) -> dict[Kind, float]:
        """How many there are of each kind."""
        return {kind: seats / kind.gpus for kind, seats in self._seats.items()}


def typical(counts: Mapping[Kind, float]) -> dict[Kind, float]:
    """The most frequent kinds, with their shares of everybody; the answer does not depend on the order of counting."""
    everybody, seen = sum(sorted(counts.values())), 0.0
    shares: dict[Kind, float] = {}
    for kind, times in sorted(counts.items(), key=lambda one: (-one[1], one[0][:3], sorted(one[0].models))):
        if seen >= TYPICAL * everybody:
            break
        seen += times
        shares[kind] = times / everybody
    return shares


def drift(one: Mapping[Kind, float], other: Mapping[Kind, float]) -> float:
    """How far apart two distributions are (total variation): 0 the same, 1 nothing in common."""
    return sum(abs(one.get(kind, 0.0) - other.get(kind, 0.0)) for kind in one.keys() | other.keys()) / 2
