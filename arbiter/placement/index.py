"""Where newcomers go: where everybody keeps full quality, packed; else where the least is lost.

An index over nodes that is kept up to date node by node. What a newcomer would meet on a node depends on that node and
the newcomer alone (and on who is to be expected), so answers are kept until the node changes. Imports the standard
library only.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from fractions import Fraction
from heapq import heapify, heappop, nsmallest
from typing import NamedTuple

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, NodeName, OwnerUid
from arbiter.placement.census import Census, drift, typical
from arbiter.placement.load import GpuLoad, Kind, NodeLoad, Wish, linked
from arbiter.placement.loss import loss
from arbiter.placement.mix import Mix
from arbiter.placement.rooms import Choice, Newcomer, NodeRoom

SOLVED = 16
"""How many options at most are solved exactly, whatever the size of the cluster: those that the estimate puts first."""

OFFERS = 200_000
"""How many answers of nodes are kept at most, those for the latest newcomers: at 200 bytes each, 40 MB."""

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


class _Tier(IntEnum):
    ROOMY = 0
    CROWDED = 1
    FULL = 2


class _Offer(NamedTuple):
    """The best that a node has for newcomers of a sort; smaller is better, down to the node's name.

    `replicas` of the same owner on its GPUs, `score` what the strategy or the estimate of the loss says, then `tie`.
    `gpus` only where nobody gives way: else there are several options, looked at when the node is one of the best.
    """

    tier: _Tier
    replicas: int
    score: float
    tie: int
    node: NodeName
    gpus: tuple[GpuUuid, ...]


_FULL = _Offer(_Tier.FULL, 0, 0, 0, NodeName(""), ())


@dataclass(slots=True, kw_only=True)
class _Option:
    """GPUs of one node with room for the floor; `loss` is exact, once it was asked for."""

    gpus: tuple[GpuUuid, ...]
    strain: float
    spare: int
    loss: Fraction | None = None


class _Alike(NamedTuple):
    """What newcomers have in common to whom nodes offer the same; models and memory are asked about at the end."""

    wish: Wish
    cpu: int
    owner: OwnerUid | None


@dataclass(slots=True)
class _Sort:
    """Newcomers that are alike, and what nodes have for them.

    `changed` are the nodes that were not looked at since they changed, `options` by demand those of nodes that were
    among the best, `asked` is the number of the last question about them.
    """

    alike: _Alike
    changed: set[NodeName]
    offers: dict[NodeName, _Offer] = field(default_factory=dict)
    options: dict[Demand, dict[NodeName, list[_Option]]] = field(default_factory=dict)
    asked: int = 0

    def forget(self, name: NodeName) -> None:
        """What the node had."""
        self.offers.pop(name, None)
        for options in self.options.values():
            options.pop(name, None)


class Placement:
    """The nodes of a cluster, and where newcomers go.

    `put` costs work for that node alone. A newcomer's own claims are no part of the rooms: put its node without them.
    Packed is the tightest fit while fewer than `FEWEST` members run, and from then on what leaves the most memory
    usable for newcomers like those (`mix`).
    """

    def __init__(self, strategy: Strategy = Strategy.PACKED) -> None:
        self._strategy = strategy
        self._nodes: dict[NodeName, NodeLoad] = {}
        self._sorts: dict[_Alike, _Sort] = {}
        self._asked = 0
        self._owned: defaultdict[OwnerUid, set[NodeName]] = defaultdict(set)
        self._census = Census()
        self._expected: dict[Kind, float] = {}
        self._mix: Mix | None = None

    def put(self, node: NodeRoom) -> None:
        """Adds a node, or replaces what was known of it. GPUs that are the same objects as before cost nothing."""
        before = self._nodes.get(node.name)
        after = self._nodes[node.name] = NodeLoad.of(node, before=before)
        for sort in self._sorts.values():
            sort.forget(node.name)
            sort.changed.add(node.name)
        self._replaced(before, after, name=node.name)

    def remove(self, name: NodeName) -> None:
        """Forgets a node; one that is not known is nothing to forget."""
        before = self._nodes.pop(name, None)
        for sort in self._sorts.values():
            sort.forget(name)
            sort.changed.discard(name)
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
        wish = Wish.of(newcomer.demand)
        sort = self._sort(_Alike(wish, newcomer.cpu, None))
        names = None if among is None else [*among]
        offers = self._offers(sort, names)
        own = self._owned.get(newcomer.owner) if newcomer.owner else None
        if own:
            here = [*own] if names is None else [name for name in names if name in own]
            replicas = self._sort(_Alike(wish, newcomer.cpu, newcomer.owner))
            offers = [*(offer for offer in offers if offer.node not in own), *self._offers(replicas, here)]
        best = self._best(offers, newcomer)
        if best.tier is _Tier.FULL:
            return None
        if best.tier is _Tier.CROWDED:
            return self._least_loss(self._taking(offers, newcomer), sort, newcomer.demand)
        spare = sum(gpu.spare(wish) for gpu in self._nodes[best.node].gpus if gpu.uuid in best.gpus)
        return Choice(node=best.node, gpus=best.gpus, loss=Fraction(0), spare=spare)

    def _best(self, offers: Iterable[_Offer], newcomer: Newcomer) -> _Offer:
        """The best offer of a node with the models and memory that the newcomer needs."""
        best = min(offers, default=_FULL)
        if best.tier is _Tier.FULL or self._nodes[best.node].takes(newcomer):
            return best
        ordered = [*offers]
        heapify(ordered)
        while ordered:
            best = heappop(ordered)
            if best.tier is _Tier.FULL or self._nodes[best.node].takes(newcomer):
                return best
        return _FULL

    def _taking(self, offers: Iterable[_Offer], newcomer: Newcomer) -> list[_Offer]:
        """The offers of nodes with the models and memory that the newcomer needs."""
        full, nodes = _Tier.FULL, self._nodes
        return [offer for offer in offers if offer.tier is not full and nodes[offer.node].takes(newcomer)]

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
            self._sorts.clear()

    def _sort(self, alike: _Alike) -> _Sort:
        """Newcomers of whom this much is known."""
        sort = self._sorts.get(alike)
        if sort is None:
            sort = self._sorts[alike] = _Sort(alike, {*self._nodes})
        self._asked += 1
        sort.asked = self._asked
        return sort

    def _offers(self, sort: _Sort, names: Collection[NodeName] | None) -> Collection[_Offer]:
        """What these nodes (None: all) have for newcomers of this sort; unknown ones nothing."""
        changed: Iterable[NodeName] = sort.changed
        if names is not None and len(sort.changed) > len(names):
            changed = [name for name in names if name in sort.changed]
        if changed:
            for name in [*changed]:
                sort.offers[name] = self._offer(self._nodes[name], sort)
            sort.changed.difference_update(changed)
            self._drop_oldest()
        return sort.offers.values() if names is None else [*filter(None, map(sort.offers.get, names))]

    def _drop_oldest(self) -> None:
        while len(self._sorts) > 1 and sum([len(sort.offers) for sort in self._sorts.values()]) > OFFERS:
            del self._sorts[min(self._sorts.values(), key=lambda sort: sort.asked).alike]

    def _offer(self, node: NodeLoad, sort: _Sort) -> _Offer:
        wish, cpu, owner = sort.alike
        if not node.has_room(wish.gpus, wish.floor, cpu=cpu):
            return _FULL
        gpus = node.distinct if wish.gpus == 1 and not owner else node.gpus
        roomy = [gpu for gpu in gpus if gpu.floor >= wish.floor and gpu.spare(wish) >= 0]
        if len(roomy) >= wish.gpus:
            return self._roomy(node, roomy, sort.alike)
        best = _options(node, wish)[0]
        return _Offer(_Tier.CROWDED, 0, best.strain, best.spare, node.room.name, ())

    def _roomy(self, node: NodeLoad, gpus: list[GpuLoad], alike: _Alike) -> _Offer:
        wish, owner = alike.wish, alike.owner
        if wish.gpus == 1:
            replicas, score, gpu_uuids = min(
                [
                    (gpu.owners.get(owner, 0) if owner else 0, self._score(node, (gpu,), alike), gpu.alone)
                    for gpu in gpus
                ]
            )
            return _Offer(_Tier.ROOMY, replicas, score, 0, node.room.name, gpu_uuids)
        sign = -1 if self._strategy is Strategy.SPREAD else 1
        group = linked(
            gpus,
            wish.gpus,
            rank=lambda gpu: (gpu.owners.get(owner, 0) if owner else 0, sign * gpu.spare(wish), gpu.uuid),
        )
        replicas = sum(gpu.owners.get(owner, 0) for gpu in group) if owner else 0
        uuids = tuple([gpu.uuid for gpu in group])
        return _Offer(_Tier.ROOMY, replicas, self._score(node, group, alike), 0, node.room.name, uuids)

    def _score(self, node: NodeLoad, group: tuple[GpuLoad, ...], alike: _Alike) -> int:
        if self._mix is not None:
            return self._mix.worsening(node, group, alike.wish, cpu=alike.cpu)
        spare = sum([gpu.spare(alike.wish) for gpu in group])
        return -spare if self._strategy is Strategy.SPREAD else spare

    def _least_loss(self, offers: Iterable[_Offer], sort: _Sort, demand: Demand) -> Choice:
        known = sort.options.setdefault(demand, {})
        likely = []
        for offer in nsmallest(SOLVED, offers):
            if offer.node not in known:
                known[offer.node] = _options(self._nodes[offer.node], sort.alike.wish)
            likely += [(option, offer.node) for option in known[offer.node]]
        likely = nsmallest(SOLVED, likely, key=lambda each: (each[0].strain, each[0].spare, each[1], each[0].gpus))
        return min((self._solved(option, node, demand) for option, node in likely), key=_rank)

    def _solved(self, option: _Option, node: NodeName, demand: Demand) -> Choice:
        if option.loss is None:
            option.loss = loss(self._nodes[node], option.gpus, demand)
        return Choice(node=node, gpus=option.gpus, loss=option.loss, spare=option.spare)


def _options(node: NodeLoad, wish: Wish) -> list[_Option]:
    """What a node has where somebody gives way, the least strain first."""
    gpus = [gpu for gpu in node.gpus if gpu.floor >= wish.floor]
    if wish.gpus == 1:
        options = [_option((gpu,), wish) for gpu in gpus]
        return sorted(options, key=lambda option: (option.strain, option.spare, option.gpus))
    chosen = linked(
        gpus, wish.gpus, rank=lambda gpu: (gpu.spare(wish) < 0, gpu.strain(wish), gpu.spare(wish), gpu.uuid)
    )
    return [_option(chosen, wish)]


def _option(gpus: tuple[GpuLoad, ...], wish: Wish) -> _Option:
    """`spare` is that of the GPU where somebody has to give way most."""
    return _Option(
        gpus=tuple(gpu.uuid for gpu in gpus),
        strain=sum(gpu.strain(wish) for gpu in gpus),
        spare=min(gpu.spare(wish) for gpu in gpus),
    )


def _rank(choice: Choice) -> tuple[Fraction, int, NodeName, tuple[GpuUuid, ...]]:
    return choice.loss, choice.spare, choice.node, choice.gpus
