"""What nodes have for newcomers that are alike, kept in order, so that the best is the first that will do.

Imports the standard library only.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from arbiter.ids import GpuUuid, NodeName, OwnerUid
from arbiter.placement.load import NodeLoad, Wish

REMEMBERED = 1 << 14
"""Bids, and shapes of nodes that are no more, that are kept at most: 2 kB for a shape of eight GPUs, 30 MB in all."""

FEW = 16
"""One in so many offers may change one by one; where it is more, all are sorted anew."""


_EMPTY = 8
"""What a sort of which nothing is known counts for."""


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
    """A node's bid; of equals the first by name."""

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


class Bids:
    """What nodes have for newcomers, kept once for all nodes that look the same to those who are nobody's replicas."""

    def __init__(self) -> None:
        self._by_shape: dict[Hashable, dict[Alike, Bid]] = {}
        self._by_node: dict[NodeName, dict[Alike, Bid]] = {}
        self._left = REMEMBERED

    def put(self, node: NodeLoad) -> None:
        """A node is new or looks different."""
        shape = node.shape
        bids = self._by_shape.get(shape)
        if bids is None:
            self._make_room()
            bids = self._by_shape[shape] = {}
        self._by_node[node.room.name] = bids

    def remove(self, name: NodeName) -> None:
        """A node is gone."""
        del self._by_node[name]

    def get(self, name: NodeName, alike: Alike) -> Bid | None:
        """What the node has, where that is known."""
        return self._by_node[name].get(alike)

    def keep(self, name: NodeName, alike: Alike, bid: Bid) -> None:
        """The node has this, and so have those that look the same."""
        self._make_room()
        self._by_node[name][alike] = bid

    def clear(self) -> None:
        """Nothing is known any more."""
        for bids in self._by_shape.values():
            bids.clear()
        used = {id(bids) for bids in self._by_node.values()}
        self._by_shape = {shape: bids for shape, bids in self._by_shape.items() if id(bids) in used}
        self._left = REMEMBERED

    def _make_room(self) -> None:
        if not self._left:
            self.clear()
        self._left -= 1


@dataclass(slots=True)
class Sort:
    """Newcomers that are alike, and what nodes have for them.

    `changed` are the nodes that were not looked at since they changed, as far as changes were told: those up to number
    `told`. `options` are those of nodes that were among the best. `alone` are the ranks of single GPUs, by model and
    bytes left at full sizes, where nothing else matters. `counted` is its `size` when it was counted last.
    """

    alike: Alike
    told: int = 0
    changed: set[NodeName] = field(default_factory=set)
    options: dict[NodeName, list[Option]] = field(default_factory=dict)
    alone: defaultdict[str, dict[int, Rank]] = field(default_factory=lambda: defaultdict(dict))
    counted: int = 0
    _offers: dict[NodeName, Offer] = field(default_factory=dict)
    _ordered: list[Offer] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many things it remembers, about 200 bytes each."""
        ranks, options = sum(map(len, self.alone.values())), sum(map(len, self.options.values()))
        return _EMPTY + len(self._offers) + len(self.changed) + ranks + options

    def tell(self, changes: dict[NodeName, int]) -> None:
        """`changes` has the number of each node's last change, the latest at the end."""
        told = self.told
        for name in reversed(changes):
            if changes[name] <= told:
                break
            self.told = max(self.told, changes[name])
            self._outdate(name)

    def tell_of(self, own: Set[NodeName], changes: dict[NodeName, int]) -> None:
        """The same of the sort of an owner's replicas, which need know nothing but the nodes where there are some."""
        self.take([(name, None) for name in (self._offers.keys() | self.changed) - own])
        for name in own:
            if changes[name] > self.told:
                self._outdate(name)
        self.told = max(self.told, changes[next(reversed(changes))])

    def take(self, offers: Sequence[tuple[NodeName, Offer | None]]) -> None:
        """What nodes have now; None: nothing."""
        is_few = len(offers) * FEW <= len(self._offers)
        for name, offer in offers:
            self.changed.discard(name)
            before = self._offers.pop(name, None)
            if offer is not None:
                self._offers[name] = offer
            if is_few and offer != before:
                if before is not None:
                    del self._ordered[bisect_left(self._ordered, before)]
                if offer is not None:
                    insort(self._ordered, offer)
        if not is_few:
            self._ordered = sorted(self._offers.values())

    def forget(self, name: NodeName) -> None:
        """A node is gone."""
        self.options.pop(name, None)
        if name in self._offers or name in self.changed:
            self.take([(name, None)])

    def best_first(self, among: Set[NodeName] | None) -> Iterator[Offer]:
        """The offers of these nodes (None: all)."""
        if among is None:
            return iter(self._ordered)
        return (offer for offer in self._ordered if offer.node in among)

    def _outdate(self, name: NodeName) -> None:
        self.changed.add(name)
        self.options.pop(name, None)
