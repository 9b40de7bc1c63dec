"""A node in integers, worked out once when it changes, so that each question about a newcomer is a few comparisons.

Imports the standard library only.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, OwnerUid
from arbiter.placement.rooms import GpuRoom, Newcomer, NodeRoom
from arbiter.policy import Policy
from arbiter.workload import Priority

KEPT_LOSSES = 256
"""From how many on a node's losses are all worked out anew."""

_NOBODY: Mapping[OwnerUid, int] = Counter()
_ANY = frozenset[str]()
_WEIGHTS = tuple(int(priority.quality_multiplier * 1000) for priority in Priority)


class Wish(NamedTuple):
    """A newcomer in integers: bytes per GPU, and its quality's weight in thousandths (0: it never gives way)."""

    floor: int
    full: int
    gpus: int
    weight: int

    @classmethod
    def of(cls, demand: Demand) -> "Wish":
        """What of a demand matters to a GPU."""
        weight = 0 if demand.is_fixed else weight_of(demand)
        return cls(floor=demand.floor, full=demand.full, gpus=demand.gpu_count, weight=weight)


class Kind(NamedTuple):
    """Newcomers that need the same: the bytes of a floor on each of `gpus`, CPU, and the models that will do."""

    floor: int
    gpus: int
    cpu: int
    models: frozenset[str]

    @classmethod
    def of(cls, newcomer: Newcomer) -> "Kind":
        """What a newcomer needs to get in."""
        demand = newcomer.demand
        return cls(demand.floor, demand.gpu_count, newcomer.cpu, newcomer.models)


class Look(NamedTuple):
    """What a newcomer sees of a GPU who wants one, nothing else, and is nobody's replica.

    That is its node's model, and of `GpuLoad` whatever differs where all room is used before anybody gives way.
    """

    model: str
    floor: int
    room: int
    wanted: int
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLoad:
    """One GPU in bytes: the largest floor that fits, `room` for those who give way and the full sizes they want.

    `weight` is that of their quality in all, in thousandths; of the room only `share` is used before they give way
    (None: all of it). `idle` bytes nobody uses while everybody is at full size. `kinds` are those of the members.
    """

    uuid: GpuUuid
    usable: int
    floor: int
    room: int
    wanted: int
    weight: int
    share: Fraction | None
    idle: int
    kinds: tuple[Kind, ...]
    owners: Mapping[OwnerUid, int]
    links: frozenset[GpuUuid]

    @classmethod
    def of(cls, gpu: GpuRoom, *, policy: Policy, unit: int) -> "GpuLoad":
        """The same GPU in integers."""
        room, wanted, weight = gpu.usable - gpu.reserved, 0, 0
        for member in gpu.members:
            if member.gives_way:
                wanted += member.demand.full
                weight += weight_of(member.demand)
            else:
                room -= member.demand.full if member.held is None else member.held
        share = None if policy.pressure_threshold == 1 else policy.pressure_threshold
        return cls(
            uuid=gpu.uuid,
            usable=gpu.usable,
            floor=gpu.largest_floor(unit=unit),
            room=room,
            wanted=wanted,
            weight=weight,
            share=share,
            idle=max(0, _used_first(room, share) - wanted),
            kinds=_kinds(gpu),
            owners=Counter(gpu.owners) if gpu.owners else _NOBODY,
            links=gpu.links,
        )

    def spare(self, wish: Wish) -> int:
        """Bytes left with everybody, the newcomer too, at full size; negative where somebody would have to give way."""
        if self.share is None:
            return self.room - self.wanted - wish.full
        if wish.weight:
            return _used_first(self.room, self.share) - self.wanted - wish.full
        return _used_first(self.room - wish.full, self.share) - self.wanted

    def strain(self, wish: Wish) -> float:
        """About how much quality the newcomer would cost here, in thousandths, weighted by priority.

        As if all who give way got the same part of their full size: a good guess without solving anything.
        """
        room = _used_first(self.room, self.share)
        before = _lost(room, self.wanted, self.weight)
        if wish.weight:
            after = _lost(room, self.wanted + wish.full, self.weight + wish.weight)
        else:
            after = _lost(_used_first(self.room - wish.full, self.share), self.wanted, self.weight)
        return after - before


def _kinds(gpu: GpuRoom) -> tuple[Kind, ...]:
    if gpu.arrived:
        return tuple([Kind.of(newcomer) for newcomer in gpu.arrived])
    return tuple([Kind(member.demand.floor, member.demand.gpu_count, 0, _ANY) for member in gpu.members])


def _used_first(room: int, share: Fraction | None) -> int:
    if share is None or room <= 0:
        return room
    return room * share.numerator // share.denominator


def weight_of(demand: Demand) -> int:
    """How much its quality counts, in thousandths."""
    return _WEIGHTS[demand.priority.level]


def _lost(room: int, wanted: int, weight: int) -> float:
    """Quality lost in all, in thousandths, where everybody gets the same part of what is wanted."""
    return 0.0 if wanted <= room else weight * (1 - max(room, 0) / wanted)


class Newcomers(NamedTuple):
    """Those with this demand who take these GPUs, of those that are solved together."""

    together: tuple[GpuUuid, ...]
    gpus: tuple[GpuUuid, ...]
    demand: Demand


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLoad:
    """One node: its GPUs by uuid, the floors that fit on them, largest first, and what is idle on each, least first.

    `distinct` are the first of those GPUs that a newcomer who wants one and is nobody's replica cannot tell apart.
    `looks` are those of its GPUs; none where the node's CPU or policy matters too.
    """

    room: NodeRoom
    gpus: tuple[GpuLoad, ...]
    distinct: tuple[GpuLoad, ...]
    looks: tuple[Look, ...]
    floors: tuple[int, ...]
    idle: tuple[int, ...]
    owners: frozenset[OwnerUid]
    worths: dict[tuple[GpuUuid, ...], int] = field(default_factory=dict)
    """Quality of the members as it is now, weighted, by the GPUs that were solved together."""
    losses: dict[Newcomers, Fraction] = field(default_factory=dict)
    """What newcomers would cost, as far as somebody asked; `KEPT_LOSSES` at most."""

    @classmethod
    def of(cls, room: NodeRoom, *, before: "NodeLoad | None" = None) -> "NodeLoad":
        """The same node in integers; GPUs that are what they were `before` are not worked out again."""
        known: dict[int, GpuLoad] = {}
        if before is not None and before.room.policy == room.policy and before.room.unit == room.unit:
            loads = {load.uuid: load for load in before.gpus}
            known = {id(gpu): loads[gpu.uuid] for gpu in before.room.gpus}
        gpus = sorted(
            [known.get(id(gpu)) or GpuLoad.of(gpu, policy=room.policy, unit=room.unit) for gpu in room.gpus],
            key=lambda load: load.uuid,
        )
        same = {gpu.uuid for gpu in room.gpus if id(gpu) in known}
        worths, losses = (before.worths, before.losses) if before and same else ({}, {})
        is_plain = room.idle is None and all(gpu.share is None for gpu in gpus)
        return cls(
            room=room,
            gpus=tuple(gpus),
            looks=tuple([Look(room.model, gpu.floor, gpu.room, gpu.wanted, gpu.weight) for gpu in gpus if is_plain]),
            distinct=tuple({(gpu.room, gpu.wanted, gpu.weight, gpu.floor): gpu for gpu in reversed(gpus)}.values()),
            floors=tuple(sorted([gpu.floor for gpu in gpus], reverse=True)),
            idle=tuple(sorted([gpu.idle for gpu in gpus])),
            owners=frozenset([owner for gpu in gpus for owner in gpu.owners]),
            worths={together: worth for together, worth in worths.items() if same.issuperset(together)},
            losses={who: loss for who, loss in losses.items() if same.issuperset(who.together)},
        )

    @property
    def shape(self) -> Hashable:
        """The node but for names and owners: what it has for a newcomer follows from that, and who is expected."""
        idle = self.room.idle
        gpus = [
            (gpu.floor, gpu.room, gpu.wanted, gpu.weight, gpu.share, gpu.links and self.places(gpu.links))
            for gpu in self.gpus
        ]
        return self.room.model, None if idle is None else idle.cpu, tuple(gpus)

    def places(self, uuids: Set[GpuUuid]) -> tuple[int, ...]:
        """Where these are among its GPUs."""
        return tuple([place for place, gpu in enumerate(self.gpus) if gpu.uuid in uuids])

    def fits(self, newcomer: Newcomer) -> bool:
        """Whether there is room for the floor on enough GPUs, and for what else it needs as far as that is known."""
        demand = newcomer.demand
        return self.has_room(demand.gpu_count, demand.floor, cpu=newcomer.cpu) and self.takes(newcomer)

    def has_room(self, count: int, floor: int, *, cpu: int) -> bool:
        """Whether there is room for a floor on so many GPUs, and CPU as far as that is known."""
        if count and (len(self.floors) < count or self.floors[count - 1] < floor):
            return False
        return self.room.idle is None or cpu <= self.room.idle.cpu

    def takes(self, newcomer: Newcomer) -> bool:
        """Whether its GPUs are of a model that will do, and there is memory as far as that is known."""
        if newcomer.models and self.room.model not in newcomer.models:
            return False
        return self.room.idle is None or newcomer.memory <= self.room.idle.memory


def linked(gpus: Iterable[GpuLoad], count: int, *, rank: Callable[[GpuLoad], tuple[Any, ...]]) -> tuple[GpuLoad, ...]:
    """`count` of the GPUs, by uuid: those with the most links among them, and of equals those that `rank` puts first.

    Grown from each GPU in turn by whichever has the most links to what is there, not all combinations.
    """
    ranked = sorted(gpus, key=rank)
    if count > 1 and any(gpu.links for gpu in ranked):
        groups = [_grown(seed, ranked, count) for seed in ranked]
        chosen = max(groups, key=_links)
    else:
        chosen = ranked[:count]
    return tuple(sorted(chosen, key=lambda gpu: gpu.uuid))


def _grown(seed: GpuLoad, ranked: list[GpuLoad], count: int) -> list[GpuLoad]:
    group, rest = [seed], [gpu for gpu in ranked if gpu is not seed]
    while len(group) < count:
        inside = {gpu.uuid for gpu in group}
        best = max(rest, key=lambda gpu: len(gpu.links & inside))
        group.append(best)
        rest.remove(best)
    return group


def _links(group: list[GpuLoad]) -> int:
    inside = {gpu.uuid for gpu in group}
    return sum(len(gpu.links & inside) for gpu in group)
