"""Where newcomers go: where everybody keeps full quality, packed; else where the least is lost.

An index over nodes that is kept up to date node by node. What a newcomer would meet on a node depends on that node and
the newcomer alone (and on who is to be expected), so answers are kept, and shared by whatever looks alike: nodes, and
single GPUs for those who want one. Imports the standard library only.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence, Set
from fractions import Fraction
from functools import partial
from heapq import merge, nsmallest
from itertools import count, islice

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, NodeName, OwnerUid
from arbiter.placement.bids import Bidding, Strategy, options
from arbiter.placement.census import Census, drift, typical
from arbiter.placement.load import Kind, NodeLoad, Wish
from arbiter.placement.loss import loss
from arbiter.placement.mix import Mix
from arbiter.placement.offers import Alike, Bid, Offer, Option, Replicas, Tier
from arbiter.placement.recent import Recent
from arbiter.placement.rooms import Choice, Newcomer, NodeRoom
from arbiter.placement.spots import Places, Ranking, Spot, Spots

SOLVED = 16
"""How many options at most are solved exactly, whatever the size of the cluster: those that the estimate puts first."""

RANKS = 300_000
"""How much is remembered of how newcomers rank what they see, the latest ones': at 150 bytes each, 45 MB."""

OFFERS = 50_000
"""How much is remembered of what nodes have for replicas, the latest owners': at 200 bytes each, 10 MB."""

OPTIONS = 1 << 12
"""How many nodes' options are remembered: 2 kB for eight GPUs, 8 MB in all."""

SPARSE = 64
"""Where no more than one in so many nodes is asked about, each of those is looked at, rather than the best of all."""

FEWEST = 100
"""From how many members on those who come are expected to be like those who run."""

DRIFT = 0.2
"""How far those who run may drift from those who are expected (total variation of their shares) before it is learnt."""

PATIENCE = 64
"""Changes of GPUs between two looks at the drift."""


class Placement:
    """The nodes of a cluster, and where newcomers go.

    `put` costs work for that node alone. A newcomer's own claims are no part of the rooms: put its node without them.
    Packed is the tightest fit while fewer than `FEWEST` members run, and from then on what leaves the most memory
    usable for newcomers like those (`mix`).
    """

    def __init__(self, strategy: Strategy = Strategy.PACKED) -> None:
        self._bidding = Bidding(strategy)
        self._nodes: dict[NodeName, NodeLoad] = {}
        self._changes: dict[NodeName, int] = {}
        """The number of each node's last change."""
        self._numbers = count(1)
        self._gpus, self._plain, self._others = Spots(), Spots(), Spots()
        """GPUs that are to be judged one by one, the nodes that they are on, and all other nodes."""
        self._rankings = Recent[tuple[Spots, Alike], Ranking](lambda _: Ranking(), at_most=RANKS)
        self._replicas = Recent[Alike, Replicas](Replicas, at_most=OFFERS)
        self._options: dict[tuple[NodeName, Wish], tuple[int, list[Option]]] = {}
        """With the number of the node's last change then."""
        self._owned: defaultdict[OwnerUid, set[NodeName]] = defaultdict(set)
        self._census = Census()
        self._expected: dict[Kind, float] = {}

    def put(self, node: NodeRoom) -> None:
        """Adds a node, or replaces what was known of it. GPUs that are the same objects as before cost nothing."""
        name, before = node.name, self._nodes.get(node.name)
        after = self._nodes[name] = NodeLoad.of(node, before=before)
        self._changes[name] = next(self._numbers)
        self._replaced(before, after, name=name)

    def remove(self, name: NodeName) -> None:
        """Forgets a node; one that is not known is nothing to forget."""
        before = self._nodes.pop(name, None)
        if before is not None:
            del self._changes[name]
            self._replaced(before, None, name=name)

    def _replaced(self, before: NodeLoad | None, after: NodeLoad | None, *, name: NodeName) -> None:
        """Counts members, owners and looks anew."""
        gone, come = before.owners if before else frozenset(), after.owners if after else frozenset()
        for owner in gone - come:
            self._owned[owner].discard(name)
            if not self._owned[owner]:
                del self._owned[owner]
        for owner in come - gone:
            self._owned[owner].add(name)
        self._census.replace(before.gpus if before else (), after.gpus if after else ())
        shape: dict[Places, Hashable] = {(): after.shape} if after else {}
        looks = after.looks if after else ()
        self._gpus.put(name, {(place,): look for place, look in enumerate(looks)})
        self._plain.put(name, shape if looks else {})
        self._others.put(name, {} if looks else shape)

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
        offers = self._offers(wish, newcomer, names)
        best = next(offers, None)
        if best is None:
            return None
        if best.rank.tier is Tier.CROWDED:
            return self._least_loss([best, *islice(offers, SOLVED - 1)], wish, newcomer.demand)
        gpus = [self._nodes[best.node].gpus[place] for place in best.places]
        return Choice(
            node=best.node,
            gpus=tuple(gpu.uuid for gpu in gpus),
            loss=Fraction(0),
            spare=sum(gpu.spare(wish) for gpu in gpus),
        )

    def _offers(self, wish: Wish, newcomer: Newcomer, among: Set[NodeName] | None) -> Iterator[Offer]:
        """What these nodes (None: all) have for the newcomer, the best first."""
        alike = Alike(wish, newcomer.cpu, None)
        alone = wish.gpus == 1 and self._bidding.by_gpu
        sources = [spots for spots in (self._gpus if alone else self._plain, self._others) if len(spots)]
        offers = merge(*[self._ranked(spots, alike, among) for spots in sources])
        own = self._owned.get(newcomer.owner) if newcomer.owner else None
        if own:
            here = own if among is None else own & among
            replicas = self._beside_replicas(alike._replace(owner=newcomer.owner), own, here)
            offers = merge((offer for offer in offers if offer.node not in own), replicas)
        nodes = self._nodes
        return (offer for offer in offers if nodes[offer.node].takes(newcomer))

    def _ranked(self, spots: Spots, alike: Alike, among: Set[NodeName] | None) -> Iterator[Offer]:
        """The same of some nodes or GPUs, for those who are nobody's replicas."""
        ranking = self._rankings[spots, alike]
        ranking.learn(spots, partial(self._bid, alike=alike))
        self._rankings.count(ranking)
        if among is None or len(among) * SPARSE > len(self._nodes):
            return ranking.best_first(among)
        return ranking.offers(spots.of(among))

    def _beside_replicas(self, alike: Alike, own: Set[NodeName], among: Set[NodeName]) -> Iterator[Offer]:
        """The same of nodes that have replicas of the newcomer's owner."""
        replicas = self._replicas[alike]
        replicas.tell(own, self._changes)
        nodes, bid = self._nodes, self._bidding.of_node
        found = [(name, bid(nodes[name], alike)) for name in replicas.changed & among]
        replicas.take([(name, known and Offer(known.rank, name, known.places)) for name, known in found])
        self._replicas.count(replicas)
        return replicas.best_first(among)

    def _bid(self, spot: Spot, *, alike: Alike) -> Bid | None:
        node = self._nodes[spot.node]
        if spot.places:
            return self._bidding.of_gpu(node, spot.places[0], alike.wish)
        return self._bidding.of_node(node, alike)

    def _learn(self) -> None:
        """Looks now and then whether those who run are still those who were expected."""
        if self._bidding.strategy is Strategy.SPREAD or self._census.changes < PATIENCE:
            return
        self._census.changes = 0
        members = self._census.members()
        expected = typical(members) if sum(members.values()) >= FEWEST else {}
        if drift(expected, self._expected) > DRIFT:
            self._expected = expected
            self._bidding = Bidding(self._bidding.strategy, Mix.of(expected, self._nodes.values()))
            self._rankings.clear()
            self._replicas.clear()

    def _least_loss(self, offers: Iterable[Offer], wish: Wish, demand: Demand) -> Choice:
        likely = [option for offer in offers for option in self._options_of(offer, wish)]
        return min((self._solved(option, demand) for option in nsmallest(SOLVED, likely)), key=_rank)

    def _options_of(self, offer: Offer, wish: Wish) -> Sequence[Option]:
        """The GPUs that are offered, else all options of the node."""
        name, node = offer.node, self._nodes[offer.node]
        if offer.places:
            return (Option(offer.rank.score, offer.rank.tie, name, tuple([node.gpus[at].uuid for at in offer.places])),)
        changed, known = self._options.get((name, wish), (0, []))
        if changed != self._changes[name]:
            if len(self._options) >= OPTIONS:
                self._options.clear()
            known = options(node, wish)
            self._options[name, wish] = self._changes[name], known
        return known

    def _solved(self, option: Option, demand: Demand) -> Choice:
        lost = loss(self._nodes[option.node], option.gpus, demand)
        return Choice(node=option.node, gpus=option.gpus, loss=lost, spare=option.spare)


def _rank(choice: Choice) -> tuple[Fraction, int, NodeName, tuple[GpuUuid, ...]]:
    return choice.loss, choice.spare, choice.node, choice.gpus
