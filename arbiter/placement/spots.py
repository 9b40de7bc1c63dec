"""Whole nodes, or single GPUs, by what a newcomer sees of them: those that look alike are ranked once.

There are fewer looks than nodes and far fewer than GPUs, and most changes lead from one known look to another. Imports
the standard library only.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from itertools import count
from typing import NamedTuple

from arbiter.ids import NodeName
from arbiter.placement.offers import EMPTY, FEW, Bid, Offer, Rank

Look = Hashable
"""What a newcomer sees; equal ones are as good."""

Places = tuple[int, ...]
"""One GPU among its node's, by uuid; none: the node as a whole."""


class Spot(NamedTuple):
    """A node, or one of its GPUs."""

    node: NodeName
    places: Places


@dataclass(slots=True, eq=False)
class Twins:
    """Spots with one look, in order. The first of them is another one since change `number`; 0: there is none."""

    look: Look
    number: int
    spots: list[Spot]


class Spots:
    """Nodes, or GPUs of nodes, by their looks."""

    def __init__(self) -> None:
        self._twins: dict[Look, Twins] = {}
        """With some that have no spot any more: often one comes back at once."""
        self._by_number: dict[Twins, None] = {}
        self._of: dict[NodeName, dict[Places, Twins]] = {}
        self._numbers = count(1)
        self._empty = 0

    def __len__(self) -> int:
        return len(self._twins)

    def put(self, node: NodeName, looks: Mapping[Places, Look]) -> None:
        """What is to be seen of a node now, in the place of what was there before."""
        before, now = self._of.pop(node, {}), dict[Places, Twins]()
        for places, look in looks.items():
            twins = before.get(places)
            if twins is not None and twins.look == look:
                now[places] = before.pop(places)
            else:
                now[places] = self._join(look, Spot(node, places))
        for places, twins in before.items():
            self._leave(twins, Spot(node, places))
        if now:
            self._of[node] = now

    def since(self, number: int) -> Iterator[Twins]:
        """Those that changed after that number, the latest first."""
        for twins in reversed(self._by_number):
            if twins.number <= number:
                return
            yield twins

    def of(self, nodes: Iterable[NodeName]) -> Iterator[tuple[Spot, Twins]]:
        """The spots of these nodes."""
        for node in nodes:
            for places, twins in self._of.get(node, {}).items():
                yield Spot(node, places), twins

    def _join(self, look: Look, spot: Spot) -> Twins:
        twins = self._twins.get(look)
        if twins is None:
            twins = self._twins[look] = Twins(look, 0, [])
        elif not twins.spots:
            self._empty -= 1
        insort(twins.spots, spot)
        if twins.spots[0] is spot:
            self._changed(twins)
        return twins

    def _leave(self, twins: Twins, spot: Spot) -> None:
        at = bisect_left(twins.spots, spot)
        del twins.spots[at]
        if not at:
            self._changed(twins)

    def _changed(self, twins: Twins) -> None:
        """The first of them is another one, or there is none any more."""
        self._by_number.pop(twins, None)
        if twins.spots:
            self._by_number[twins] = None
            twins.number = next(self._numbers)
            return
        twins.number = 0
        self._empty += 1
        if 2 * self._empty > len(self._twins) + EMPTY:
            self._twins = {look: others for look, others in self._twins.items() if others.spots}
            self._empty = 0


@dataclass(slots=True)
class Ranking:
    """How newcomers who are alike rank what they see. `counted` is its `size` when it was counted last.

    `_ordered` has the first spot of all twins, by the change that made it the first: it may be outdated.
    """

    counted: int = 0
    _told: int = 0
    _enough: int = EMPTY
    _bids: dict[Twins, Bid | None] = field(default_factory=dict)
    _ordered: list[tuple[Rank, Spot, int, Twins]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many things it remembers, about 200 bytes each."""
        return EMPTY + len(self._bids) + len(self._ordered)

    def learn(self, spots: Spots, bid: Callable[[Spot], Bid | None]) -> None:
        """Has everything ranked that looks new, by one spot of each look; None: no room for the newcomer."""
        self._forget(spots)
        bids, come, told = self._bids, [], self._told
        for twins in spots.since(told):
            self._told = max(self._told, twins.number)
            first = twins.spots[0]
            known = bids[twins] if twins in bids else bids.setdefault(twins, bid(first))
            if known is not None:
                come.append((known.rank, first, twins.number, twins))
        if len(come) * FEW > len(self._ordered):
            self._ordered = sorted(self._ordered + come)
        else:
            for entry in come:
                insort(self._ordered, entry)

    def best_first(self, among: Set[NodeName] | None) -> Iterator[Offer]:
        """What these nodes (None: all) have."""
        ordered = self._ordered
        valid = next((at for at, (_, _, number, twins) in enumerate(ordered) if twins.number == number), len(ordered))
        del ordered[:valid]
        begun: list[tuple[Rank, Spot, int, Twins]] = []
        """The next of those whose first came already, with its place among them."""
        for entry in ordered:
            rank, first, number, twins = entry
            if twins.number == number:
                while begun and begun[0] < entry:
                    yield from self._next(begun, among)
                heappush(begun, (rank, first, 0, twins))
                yield from self._next(begun, among)
        while begun:
            yield from self._next(begun, among)

    def offers(self, spots: Iterable[tuple[Spot, Twins]]) -> Iterator[Offer]:
        """The same of a few."""
        known = ((spot, self._bids[twins]) for spot, twins in spots)
        return iter(sorted(_offer(spot, bid) for spot, bid in known if bid is not None))

    def _next(self, begun: list[tuple[Rank, Spot, int, Twins]], among: Set[NodeName] | None) -> Iterator[Offer]:
        """The best of those that have begun, and then the next of its twins takes its place."""
        rank, spot, at, twins = begun[0]
        bid = self._bids[twins]
        if bid is not None and (among is None or spot.node in among):
            yield _offer(spot, bid)
        spots, at = twins.spots, at + 1
        while among is not None and at < len(spots) and spots[at].node not in among:
            at += 1
        if at < len(spots):
            heapreplace(begun, (rank, spots[at], at, twins))
        else:
            heappop(begun)

    def _forget(self, spots: Spots) -> None:
        """What is no more, where that may be as much as there is."""
        if len(self._bids) > 2 * len(spots) + EMPTY:
            self._bids = {twins: bid for twins, bid in self._bids.items() if twins.number}
        if len(self._ordered) > self._enough:
            self._ordered = [entry for entry in self._ordered if entry[3].number == entry[2]]
            self._enough = 2 * len(self._ordered) + EMPTY


def _offer(spot: Spot, bid: Bid) -> Offer:
    return Offer(bid.rank, spot.node, spot.places or bid.places)
