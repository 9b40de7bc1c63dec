"""Where newcomers go: where everybody keeps full quality, packed; else where the least is lost.

An index over nodes that is kept up to date node by node. What a newcomer would meet on a node depends on that node and
the newcomer alone (and on who is to be expected), so answers are kept until the node changes, and shared by nodes that
look alike. Imports the standard library only.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from enum import StrEnum
from fractions import Fraction
from heapq import merge, nsmallest
from itertools import count, islice

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, NodeName, OwnerUid
from arbiter.placement.census import Census, drift, typical
from arbiter.placement.load import GpuLoad, Kind, NodeLoad, Wish, linked
from arbiter.placement.loss import loss
from arbiter.placement.mix import Mix
from arbiter.placement.offers import Alike, Bid, Bids, Offer, Option, Rank, Sort, Tier
from arbiter.placement.rooms import Choice, Newcomer, NodeRoom

SOLVED = 16
"""How many options at most are solved exactly, whatever the size of the cluster: those that the estimate puts first."""

OFFERS = 200_000
"""How much is remembered of what nodes have for newcomers, the latest ones': at 200 bytes each, 40 MB.

Offers, nodes to be looked at again, options and ranks count alike; `Bids` are beside that.
"""

FEWEST = 100
"""From how many members on those who come are expected to be like those who run."""

DRIFT = 0.2
"""How far those who run may drift from those who are expected (total variation of their shares) before it is learnt."""

PATIENCE = 64
"""Changes of GPUs between two looks at the drift."""


class Strategy(StrEnum):
    """Which of the GPUs that cost nobody quality are taken first: by what stays usable for others, or the emptiest."""

    PACKED = "packed"
    SPREAD = "spread"


class Placement:
    """The nodes of a cluster, and where newcomers go.

    `put` costs work for that node alone. A newcomer's own claims are no part of the rooms: put its node without them.
    Packed is the tightest fit while fewer than `FEWEST` members run, and from then on what leaves the most memory
    usable for newcomers like those (`mix`).
    """

    def __init__(self, strategy: Strategy = Strategy.PACKED) -> None:
        self._strategy = strategy
        self._nodes: dict[NodeName, NodeLoad] = {}
        self._changes: dict[NodeName, int] = {}
        """The number of each node's last change, the latest at the end."""
        self._numbers = count(1)
        self._sorts: dict[Alike, Sort] = {}
        """Those that were asked for last at the end."""
        self._kept = 0
        self._bids = Bids()
        self._owned: defaultdict[OwnerUid, set[NodeName]] = defaultdict(set)
        self._census = Census()
        self._expected: dict[Kind, float] = {}
        self._mix: Mix | None = None

    def put(self, node: NodeRoom) -> None:
        """Adds a node, or replaces what was known of it. GPUs that are the same objects as before cost nothing."""
        before = self._nodes.get(node.name)
        after = self._nodes[node.name] = NodeLoad.of(node, before=before)
        self._bids.put(after)
        self._changes.pop(node.name, None)
        self._changes[node.name] = next(self._numbers)
        self._replaced(before, after, name=node.name)

    def remove(self, name: NodeName) -> None:
        """Forgets a node; one that is not known is nothing to forget."""
        before = self._nodes.pop(name, None)
        if before is not None:
            del self._changes[name]
            self._bids.remove(name)
            for sort in self._sorts.values():
                sort.forget(name)
            self._replaced(before, None, name=name)

    def _replaced(self, before: NodeLoad | None, after: NodeLoad | None, *, name: NodeName) -> None:
        """Counts members and owners anew."""
        gone, come = before.owners if before else frozenset(), after.owners if after else frozenset()
        for owner in gone - come:
            self._owned[owner].discard(name)
            if not self._owned[owner]:
                del self._owned[owner]
        for owner in come - gone:
            self._owned[owner].add(name)
        self._census.replace(before.gpus if before else (), after.gpus if after else ())

    def fitting(self, newcomer: Newcomer, among: Iterable[NodeName] | None = None) -> list[NodeName]:
        """The nodes with room for the newcomer's floor, in the order asked for; unknown ones are none."""
        get, fits = self._nodes.get, NodeLoad.fits
        count, floor = newcomer.demand.gpu_count, newcomer.demand.floor
        names = self._nodes if among is None else among
        if newcomer.cpu or newcomer.memory or newcomer.models or not count:
            return [name for name in names if (node := get(name)) is not None and fits(node, newcomer)]
        # The same for those who need nothing else, without a call for each of thousands of nodes.
        last = count - 1
        return [
            name
            for name in names
            if (node := get(name)) is not None and len(node.floors) > last and node.floors[last] >= floor
        ]

    def choose(self, newcomer: Newcomer, among: Iterable[NodeName] | None = None) -> Choice | None:
        """The best GPUs of the best node; None where the newcomer fits nowhere.

        Where some node takes everybody at full size, the best such by the strategy, and nothing is solved. Else the
        least loss among the `SOLVED` options with the least strain. For several GPUs each node offers one group: the
        most linked, then those that are best one by one.
        """
        self._learn()
        wish, names = Wish.of(newcomer.demand), None if among is None else frozenset(among)
        sort = self._sort(Alike(wish, newcomer.cpu, None), names)
        offers = self._offers(sort, newcomer, names)
        best = next(offers, None)
        if best is None:
            return None
        if best.rank.tier is Tier.CROWDED:
            return self._least_loss([best, *islice(offers, SOLVED - 1)], sort, newcomer.demand)
        gpus = [self._nodes[best.node].gpus[place] for place in best.places]
        return Choice(
            node=best.node,
            gpus=tuple(gpu.uuid for gpu in gpus),
            loss=Fraction(0),
            spare=sum(gpu.spare(wish) for gpu in gpus),
        )

    def _offers(self, sort: Sort, newcomer: Newcomer, among: Set[NodeName] | None) -> Iterator[Offer]:
        """What these nodes (None: all) have for a newcomer of this sort, the best first."""
        offers = sort.best_first(among)
        own = self._owned.get(newcomer.owner) if newcomer.owner else None
        if own:
            here = own if among is None else own & among
            replicas = self._sort(sort.alike._replace(owner=newcomer.owner), here).best_first(here)
            offers = merge((offer for offer in offers if offer.node not in own), replicas)
        nodes = self._nodes
        return (offer for offer in offers if nodes[offer.node].takes(newcomer))

    def _learn(self) -> None:
        """Looks now and then whether those who run are still those who were expected."""
        if self._strategy is Strategy.SPREAD or self._census.changes < PATIENCE:
            return
        self._census.changes = 0
        members = self._census.members()
        expected = typical(members) if sum(members.values()) >= FEWEST else {}
        if drift(expected, self._expected) > DRIFT:
            self._expected = expected
            self._mix = Mix.of(expected, self._nodes.values())
            self._bids.clear()
            self._sorts.clear()
            self._kept = 0

    def _sort(self, alike: Alike, among: Set[NodeName] | None) -> Sort:
        """Newcomers of whom this much is known, with the offers of these nodes (None: all) as they are now."""
        sort = self._sorts.pop(alike, None) or Sort(alike)
        self._sorts[alike] = sort
        if alike.owner is None:
            sort.tell(self._changes)
        else:
            sort.tell_of(self._owned[alike.owner], self._changes)
        changed: Set[NodeName] = sort.changed
        if among is not None and len(changed) > len(among):
            changed = changed & among
        if changed:
            sort.take([(name, self._offer(self._nodes[name], sort)) for name in changed])
        self._count(sort)
        return sort

    def _count(self, sort: Sort) -> None:
        """Counts what a sort remembers anew, and drops those that nobody asked for in the longest time."""
        before, sort.counted = sort.counted, sort.size
        self._kept += sort.counted - before
        while self._kept > OFFERS and len(self._sorts) > 1:
            self._kept -= self._sorts.pop(next(iter(self._sorts))).counted

    def _offer(self, node: NodeLoad, sort: Sort) -> Offer | None:
        alike = sort.alike
        wish, cpu, owner = alike
        if wish.gpus == 1 and not owner and node.by_spare and (self._mix is None or self._mix.by_gpu):
            offer = self._roomy_alone(node, sort)
            if offer is not None:
                return offer
        if not node.has_room(wish.gpus, wish.floor, cpu=cpu):
            return None
        name = node.room.name
        if owner:
            bid = self._bid(node, alike)
        else:
            known = self._bids.get(name, alike)
            if known is None:
                known = self._bid(node, alike)
                self._bids.keep(name, alike, known)
            bid = known
        return Offer(bid.rank, name, bid.places)

    def _roomy_alone(self, node: NodeLoad, sort: Sort) -> Offer | None:
        """What `_roomy` says of most nodes and newcomers, in a part of its time: a new sort asks every node."""
        floor, full, _, _ = sort.alike.wish
        ranks = sort.alone[node.room.model]
        roomy = [(spare, place) for spare, largest, place in node.by_spare if spare >= full and largest >= floor]
        if not roomy:
            return None
        for spare, place in roomy:
            if spare not in ranks:
                ranks[spare] = Rank(Tier.ROOMY, 0, self._score(node, (node.gpus[place],), sort.alike), 0)
        rank, place = min([(ranks[spare], place) for spare, place in roomy])
        return Offer(rank, node.room.name, (place,))

    def _bid(self, node: NodeLoad, alike: Alike) -> Bid:
        wish, owner = alike.wish, alike.owner
        gpus = node.distinct if wish.gpus == 1 and not owner else node.gpus
        roomy = [gpu for gpu in gpus if gpu.floor >= wish.floor and gpu.spare(wish) >= 0]
        if len(roomy) >= wish.gpus:
            return self._roomy(node, roomy, alike)
        best = _options(node, wish)[0]
        return Bid(Rank(Tier.CROWDED, 0, best.strain, best.spare))

    def _roomy(self, node: NodeLoad, gpus: list[GpuLoad], alike: Alike) -> Bid:
        wish, owner = alike.wish, alike.owner
        if wish.gpus == 1:
            replicas, score, uuid = min(
                [(gpu.owners.get(owner, 0) if owner else 0, self._score(node, (gpu,), alike), gpu.uuid) for gpu in gpus]
            )
            return Bid(Rank(Tier.ROOMY, replicas, score, 0), node.places({uuid}))
        sign = -1 if self._strategy is Strategy.SPREAD else 1
        group = linked(
            gpus,
            wish.gpus,
            rank=lambda gpu: (gpu.owners.get(owner, 0) if owner else 0, sign * gpu.spare(wish), gpu.uuid),
        )
        replicas = sum(gpu.owners.get(owner, 0) for gpu in group) if owner else 0
        score = self._score(node, group, alike)
        return Bid(Rank(Tier.ROOMY, replicas, score, 0), node.places({gpu.uuid for gpu in group}))

    def _score(self, node: NodeLoad, group: tuple[GpuLoad, ...], alike: Alike) -> int:
        if self._mix is not None:
            return self._mix.worsening(node, group, alike.wish, cpu=alike.cpu)
        spare = sum([gpu.spare(alike.wish) for gpu in group])
        return -spare if self._strategy is Strategy.SPREAD else spare

    def _least_loss(self, offers: Iterable[Offer], sort: Sort, demand: Demand) -> Choice:
        likely: list[Option] = []
        for offer in offers:
            if offer.node not in sort.options:
                sort.options[offer.node] = _options(self._nodes[offer.node], sort.alike.wish)
            likely += sort.options[offer.node]
        return min((self._solved(option, demand) for option in nsmallest(SOLVED, likely)), key=_rank)

    def _solved(self, option: Option, demand: Demand) -> Choice:
        lost = loss(self._nodes[option.node], option.gpus, demand)
        return Choice(node=option.node, gpus=option.gpus, loss=lost, spare=option.spare)


def _options(node: NodeLoad, wish: Wish) -> list[Option]:
    """What a node has where somebody gives way, the least strain first."""
    gpus = [gpu for gpu in node.gpus if gpu.floor >= wish.floor]
    if wish.gpus == 1:
        return sorted([_option(node, (gpu,), wish) for gpu in gpus])
    chosen = linked(
        gpus, wish.gpus, rank=lambda gpu: (gpu.spare(wish) < 0, gpu.strain(wish), gpu.spare(wish), gpu.uuid)
    )
    return [_option(node, chosen, wish)]


def _option(node: NodeLoad, gpus: tuple[GpuLoad, ...], wish: Wish) -> Option:
    """`spare` is that of the GPU where somebody has to give way most."""
    return Option(
        strain=sum(gpu.strain(wish) for gpu in gpus),
        spare=min(gpu.spare(wish) for gpu in gpus),
        node=node.room.name,
        gpus=tuple(gpu.uuid for gpu in gpus),
    )


def _rank(choice: Choice) -> tuple[Fraction, int, NodeName, tuple[GpuUuid, ...]]:
    return choice.loss, choice.spare, choice.node, choice.gpus
