"""What nodes have for newcomers that are alike, kept in order, so that the best is the first that will do.

Imports the standard library only.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from arbiter.ids import GpuUuid, NodeName, OwnerUid
from arbiter.placement.load import Wish

FEW = 16
"""One in so many may be put into order one by one; where it is more, all are sorted anew."""

EMPTY = 8
"""What newcomers of whom nothing is known count for."""


class Tier(IntEnum):
    """Whether somebody has to give way."""

    ROOMY = 0
    CROWDED = 1


class Rank(NamedTuple):
    """How good it is; smaller is better.

    `replicas` of the same owner on its GPUs, `score` what the strategy or the estimate of the loss says, then `tie`.
    """

    tier: Tier
    replicas: int
    score: float
    tie: int


class Bid(NamedTuple):
    """The best that a node has, with the `places` of its GPUs among the node's, by uuid.

    No places where somebody gives way: there are several options, looked at when the node is one of the best.
    """

    rank: Rank
    places: tuple[int, ...] = ()


class Offer(NamedTuple):
    """A node's bid, or what one of its GPUs is to whoever wants a single one; of equals the first by name."""

    rank: Rank
    node: NodeName
    places: tuple[int, ...]


class Option(NamedTuple):
    """GPUs of one node with room for the floor; smaller is better."""

    strain: float
    spare: int
    node: NodeName
    gpus: tuple[GpuUuid, ...]


class Alike(NamedTuple):
    """What newcomers have in common to whom nodes offer the same; models and memory are asked about at the end."""

    wish: Wish
    cpu: int
    owner: OwnerUid | None


@dataclass(slots=True)
class Replicas:
    """What nodes with replicas of an owner have for another one of a kind, in order.

    Nothing else is as it is: how many of them are on which GPU.
    """

    alike: Alike
    counted: int = 0
    changed: set[NodeName] = field(default_factory=set)
    """Nodes that were not looked at since they changed, as far as changes were told."""
    _told: int = 0
    _offers: dict[NodeName, Offer] = field(default_factory=dict)
    _ordered: list[Offer] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many things it remembers, about 200 bytes each."""
        return EMPTY + len(self._offers) + len(self.changed)

    def tell(self, own: Set[NodeName], changes: Mapping[NodeName, int]) -> None:
        """`own` are the nodes with replicas now; `changes` has the number of each node's last change."""
        self.take([(name, None) for name in (self._offers.keys() | self.changed) - own])
        told = self._told
        for name in own:
            if changes[name] > told:
                self.changed.add(name)
                self._told = max(self._told, changes[name])

    def take(self, offers: Sequence[tuple[NodeName, Offer | None]]) -> None:
        """What nodes have now; None: nothing."""
        known, gone, come = self._offers, list[Offer](), list[Offer]()
        for name, offer in offers:
            self.changed.discard(name)
            before = known.get(name)
            if offer == before:
                continue
            if before is not None:
                gone.append(before)
                del known[name]
            if offer is not None:
                come.append(offer)
                known[name] = offer
        if (len(gone) + len(come)) * FEW <= len(known):
            for offer in gone:
                del self._ordered[bisect_left(self._ordered, offer)]
            for offer in come:
                insort(self._ordered, offer)
        else:
            self._ordered = sorted(known.values())

    def best_first(self, among: Set[NodeName]) -> Iterator[Offer]:
        """The offers of these nodes."""
        return (offer for offer in self._ordered if offer.node in among)
