"""A node in integers, worked out once when it changes, so that each question about a newcomer is a few comparisons.

Imports the standard library only.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from arbiter.demand import Demand
from arbiter.equilibrium import Equilibrium
from arbiter.ids import GpuUuid
from arbiter.placement.rooms import GpuRoom, Newcomer, NodeRoom
from arbiter.policy import Policy


@dataclass(frozen=True, slots=True)
class Wish:
    """A newcomer in integers: bytes per GPU, and its quality's weight in thousandths (0: it never gives way)."""

    floor: int
    full: int
    count: int
    weight: int

    @classmethod
    def of(cls, demand: Demand) -> "Wish":
        """What of a demand matters to a GPU."""
        weight = 0 if demand.is_fixed else _weight(demand)
        return cls(floor=demand.floor, full=demand.full, count=demand.gpu_count, weight=weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLoad:
    """One GPU in bytes: the largest floor that fits, `room` for those who give way and the full sizes they want.

    `weight` is that of their quality in all, in thousandths; of the room only `share` is used before they give way.
    """

    uuid: GpuUuid
    usable: int
    floor: int
    room: int
    wanted: int
    weight: int
    share: Fraction
    owners: Counter[str]
    links: frozenset[GpuUuid]

    @classmethod
    def of(cls, gpu: GpuRoom, *, policy: Policy, unit: int) -> "GpuLoad":
        """The same GPU in integers."""
        room, wanted, weight = gpu.usable - gpu.reserved, 0, 0
        for member in gpu.members:
            if member.gives_way:
                wanted += member.demand.full
                weight += _weight(member.demand)
            else:
                room -= member.demand.full if member.held is None else member.held
        return cls(
            uuid=gpu.uuid,
            usable=gpu.usable,
            floor=gpu.largest_floor(unit=unit),
            room=room,
            wanted=wanted,
            weight=weight,
            share=policy.pressure_threshold,
            owners=Counter(gpu.owners),
            links=gpu.links,
        )

    def spare(self, wish: Wish) -> int:
        """Bytes left with everybody, the newcomer too, at full size; negative where somebody would have to give way."""
        if wish.weight:
            return self._used_first(self.room) - self.wanted - wish.full
        return self._used_first(self.room - wish.full) - self.wanted

    def strain(self, wish: Wish) -> float:
        """About how much quality the newcomer would cost here, in thousandths, weighted by priority.

        As if all who give way got the same part of their full size: a good guess without solving anything.
        """
        before = _lost(self._used_first(self.room), self.wanted, self.weight)
        if wish.weight:
            after = _lost(self._used_first(self.room), self.wanted + wish.full, self.weight + wish.weight)
        else:
            after = _lost(self._used_first(self.room - wish.full), self.wanted, self.weight)
        return after - before

    def _used_first(self, room: int) -> int:
        if self.share == 1 or room <= 0:
            return room
        return room * self.share.numerator // self.share.denominator


def _weight(demand: Demand) -> int:
    return int(demand.priority.quality_multiplier * 1000)


def _lost(room: int, wanted: int, weight: int) -> float:
    """Quality lost in all, in thousandths, where everybody gets the same part of what is wanted."""
    return 0.0 if wanted <= room else weight * (1 - max(room, 0) / wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLoad:
    """One node: its GPUs by uuid, and the floors that fit on them, largest first."""

    room: NodeRoom
    gpus: tuple[GpuLoad, ...]
    floors: tuple[int, ...]
    solved: dict[tuple[GpuUuid, ...], Equilibrium] = field(default_factory=dict)
    """Equilibria as they are now, by the GPUs that were solved together."""

    @classmethod
    def of(cls, room: NodeRoom, *, before: "NodeLoad | None" = None) -> "NodeLoad":
        """The same node in integers; GPUs that are what they were `before` are not worked out again."""
        known: dict[int, GpuLoad] = {}
        if before is not None and before.room.policy == room.policy and before.room.unit == room.unit:
            loads = {load.uuid: load for load in before.gpus}
            known = {id(gpu): loads[gpu.uuid] for gpu in before.room.gpus}
        gpus = sorted(
            (known.get(id(gpu)) or GpuLoad.of(gpu, policy=room.policy, unit=room.unit) for gpu in room.gpus),
            key=lambda load: load.uuid,
        )
        return cls(room=room, gpus=tuple(gpus), floors=tuple(sorted((gpu.floor for gpu in gpus), reverse=True)))

    def fits(self, newcomer: Newcomer) -> bool:
        """Whether there is room for the floor on enough GPUs, and for what else it needs as far as that is known."""
        demand, room = newcomer.demand, self.room
        count = demand.gpu_count
        if count and (len(self.floors) < count or self.floors[count - 1] < demand.floor):
            return False
        if newcomer.models and room.model not in newcomer.models:
            return False
        return room.idle is None or (newcomer.cpu <= room.idle.cpu and newcomer.memory <= room.idle.memory)


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
