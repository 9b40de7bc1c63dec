"""Where newcomers go: where everybody keeps full quality, packed; else where the least is lost.

An index over nodes that is kept up to date node by node. What a newcomer would meet on a node depends on that node and
the newcomer alone, so answers are kept until the node changes. Imports the standard library only.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from fractions import Fraction
from heapq import nsmallest
from typing import NamedTuple

from arbiter.ids import GpuUuid, NodeName, OwnerUid
from arbiter.placement.load import GpuLoad, NodeLoad, Wish, linked
from arbiter.placement.loss import loss
from arbiter.placement.rooms import Choice, Newcomer, NodeRoom

SOLVED = 16
"""How many options at most are solved exactly, whatever the size of the cluster: those that the estimate puts first."""

KINDS = 256
"""Of how many kinds of newcomers answers are kept, the latest used."""


class Strategy(StrEnum):
    """Which of the GPUs that cost nobody quality are taken first: the fullest, or the emptiest."""

    PACKED = "packed"
    SPREAD = "spread"


class _Tier(IntEnum):
    ROOMY = 0
    CROWDED = 1
    FULL = 2


@dataclass(slots=True, kw_only=True)
class _Option:
    """GPUs of one node with room for the floor; `loss` is exact, once it was asked for."""

    gpus: tuple[GpuUuid, ...]
    strain: float
    spare: int
    loss: Fraction | None = None


class _Offer(NamedTuple):
    """The best that a node has for a kind of newcomer; smaller is better, down to the node's name.

    `replicas` of the same owner on its GPUs, `score` what the strategy or the estimate of the loss says, `options` the
    best first.
    """

    tier: _Tier
    replicas: int
    score: float
    spare: int
    node: NodeName
    options: tuple[_Option, ...] = ()


@dataclass(slots=True)
class _Kind:
    """Newcomers that are alike, and what nodes have for them."""

    newcomer: Newcomer
    wish: Wish
    offers: dict[NodeName, _Offer] = field(default_factory=dict)


class Placement:
    """The nodes of a cluster, and where newcomers go.

    `put` costs work for that node alone. A newcomer's own claims are no part of the rooms: put its node without them.
    """

    def __init__(self, strategy: Strategy = Strategy.PACKED) -> None:
        self._strategy = strategy
        self._nodes: dict[NodeName, NodeLoad] = {}
        self._kinds: OrderedDict[Newcomer, _Kind] = OrderedDict()
        self._owned: defaultdict[OwnerUid, set[NodeName]] = defaultdict(set)

    def put(self, node: NodeRoom) -> None:
        """Adds a node, or replaces what was known of it. GPUs that are the same objects as before cost nothing."""
        before = self._nodes.get(node.name)
        self._forget(node.name)
        self._nodes[node.name] = NodeLoad.of(node, before=before)
        for owner in _owners(node):
            self._owned[owner].add(node.name)

    def remove(self, name: NodeName) -> None:
        """Forgets a node; one that is not known is nothing to forget."""
        self._forget(name)
        self._nodes.pop(name, None)

    def fitting(self, newcomer: Newcomer, among: Iterable[NodeName] | None = None) -> list[NodeName]:
        """The nodes with room for the newcomer's floor, in the order asked for; unknown ones are none."""
        nodes = self._nodes
        known = ((name, nodes.get(name)) for name in (nodes if among is None else among))
        return [name for name, node in known if node is not None and node.fits(newcomer)]

    def choose(self, newcomer: Newcomer, among: Iterable[NodeName] | None = None) -> Choice | None:
        """The best GPUs of the best node; None where the newcomer fits nowhere.

        Where some node takes everybody at full size, the best such by the strategy, and nothing is solved. Else the
        least loss among the `SOLVED` options with the least strain. For several GPUs each node offers one group: the
        most linked, then those that are best one by one.
        """
        offers = self._offers(newcomer, self._nodes if among is None else among)
        best = min(offers, default=None)
        if best is None or best.tier is _Tier.FULL:
            return None
        if best.tier is _Tier.ROOMY:
            return Choice(node=best.node, gpus=best.options[0].gpus, loss=Fraction(0), spare=best.spare)
        likely = [(option, offer.node) for offer in nsmallest(SOLVED, offers) for option in offer.options]
        likely = nsmallest(SOLVED, likely, key=lambda each: (each[0].strain, each[0].spare, each[1], each[0].gpus))
        return min((self._solved(option, node, newcomer) for option, node in likely), key=_rank)

    def _offers(self, newcomer: Newcomer, among: Iterable[NodeName]) -> list[_Offer]:
        alike = self._kind(replace(newcomer, owner=None) if newcomer.owner else newcomer)
        get, nodes = alike.offers.get, self._nodes
        own = self._owned.get(newcomer.owner) if newcomer.owner else None
        if own:
            names = [name for name in among if name in nodes]
            kind = self._kind(newcomer)
            return [self._offer(name, kind) if name in own else get(name) or self._offer(name, alike) for name in names]
        return [get(name) or self._offer(name, alike) for name in among if name in nodes]

    def _kind(self, newcomer: Newcomer) -> _Kind:
        kind = self._kinds.get(newcomer)
        if kind is None:
            kind = self._kinds[newcomer] = _Kind(newcomer, Wish.of(newcomer.demand))
            if len(self._kinds) > KINDS:
                self._kinds.popitem(last=False)
        else:
            self._kinds.move_to_end(newcomer)
        return kind

    def _offer(self, name: NodeName, kind: _Kind) -> _Offer:
        offer = kind.offers.get(name)
        if offer is None:
            offer = kind.offers[name] = self._offered(self._nodes[name], kind)
        return offer

    def _offered(self, node: NodeLoad, kind: _Kind) -> _Offer:
        name, wish = node.room.name, kind.wish
        if not node.fits(kind.newcomer):
            return _Offer(_Tier.FULL, 0, 0, 0, name)
        fitting = [gpu for gpu in node.gpus if gpu.floor >= wish.floor]
        roomy = [gpu for gpu in fitting if gpu.spare(wish) >= 0]
        if len(roomy) >= wish.count:
            return self._roomy(name, roomy, kind)
        return _crowded(name, fitting, wish)

    def _roomy(self, name: NodeName, gpus: list[GpuLoad], kind: _Kind) -> _Offer:
        wish, owner = kind.wish, kind.newcomer.owner
        sign = 1 if self._strategy is Strategy.PACKED else -1
        chosen = linked(
            gpus, wish.count, rank=lambda gpu: (gpu.owners[owner] if owner else 0, sign * gpu.spare(wish), gpu.uuid)
        )
        spare = sum(gpu.spare(wish) for gpu in chosen)
        replicas = sum(gpu.owners[owner] for gpu in chosen) if owner else 0
        option = _Option(gpus=tuple(gpu.uuid for gpu in chosen), strain=0.0, spare=spare)
        return _Offer(_Tier.ROOMY, replicas, sign * spare, spare, name, (option,))

    def _solved(self, option: _Option, node: NodeName, newcomer: Newcomer) -> Choice:
        if option.loss is None:
            option.loss = loss(self._nodes[node], option.gpus, newcomer.demand)
        return Choice(node=node, gpus=option.gpus, loss=option.loss, spare=option.spare)

    def _forget(self, name: NodeName) -> None:
        for kind in self._kinds.values():
            kind.offers.pop(name, None)
        known = self._nodes.get(name)
        for owner in _owners(known.room) if known else ():
            self._owned[owner].discard(name)
            if not self._owned[owner]:
                del self._owned[owner]


def _owners(node: NodeRoom) -> set[OwnerUid]:
    return {owner for gpu in node.gpus for owner in gpu.owners}


def _crowded(name: NodeName, gpus: list[GpuLoad], wish: Wish) -> _Offer:
    if wish.count == 1:
        options = [_option((gpu,), wish) for gpu in gpus]
        options.sort(key=lambda option: (option.strain, option.spare, option.gpus))
    else:
        chosen = linked(
            gpus, wish.count, rank=lambda gpu: (gpu.spare(wish) < 0, gpu.strain(wish), gpu.spare(wish), gpu.uuid)
        )
        options = [_option(chosen, wish)]
    return _Offer(_Tier.CROWDED, 0, options[0].strain, options[0].spare, name, tuple(options))


def _option(gpus: tuple[GpuLoad, ...], wish: Wish) -> _Option:
    """`spare` is that of the GPU where somebody has to give way most."""
    return _Option(
        gpus=tuple(gpu.uuid for gpu in gpus),
        strain=sum(gpu.strain(wish) for gpu in gpus),
        spare=min(gpu.spare(wish) for gpu in gpus),
    )


def _rank(choice: Choice) -> tuple[Fraction, int, NodeName, tuple[GpuUuid, ...]]:
    return choice.loss, choice.spare, choice.node, choice.gpus
