"""The quality equilibrium: one price per GPU, from which every member's quality and memory follow.

A pure function of the members, without memory: two leaders, or one before and after a restart, decide the same.
Imports the standard library only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from arbiter.curves import HIGHEST_PRICE, LOWEST_PRICE, Bend, Curve, curve_of
from arbiter.demand import Demand
from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.workload import MemoryPressure


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One container with VRAM on `gpus`. `held`: bytes per GPU that it keeps whatever the price; None: as demanded.

    `name` is what people call it; it decides between equals, so that a plan made before the UIDs exist comes true.
    """

    uid: PodUid
    demand: Demand
    gpus: tuple[GpuUuid, ...]
    held: int | None = None
    name: str = ""

    @property
    def gives_way(self) -> bool:
        """Whether its quality answers to the price."""
        return self.held is None and not self.demand.is_fixed

    @property
    def drop_order(self) -> tuple[int, str, PodUid]:
        """Who goes down first where equals cannot all stay: lowest priority, then name, then UID."""
        return self.demand.priority.level, self.name, self.uid


@dataclass(frozen=True, slots=True)
class Target:
    """The answer for one member: quality in thousandths (None: held) and bytes per GPU."""

    quality: Fraction | None
    vram: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPrice:
    """The answer for one GPU: its price (-1 to 6), the bytes that its members' targets use, and its usable bytes.

    `overcommitted`: floors and held bytes alone exceed the capacity.
    """

    price: Fraction
    used: int
    capacity: int
    overcommitted: bool

    @property
    def pressure(self) -> MemoryPressure:
        """The price as people see it."""
        if self.price == LOWEST_PRICE:
            return MemoryPressure.LOW
        if self.price <= 0:
            return MemoryPressure.MODERATE
        return MemoryPressure.HIGH if self.price <= 1 else MemoryPressure.CRITICAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Equilibrium:
    """Targets of all members and prices of all GPUs of one node, rounded as they are published."""

    prices: Mapping[GpuUuid, GpuPrice]
    targets: Mapping[PodUid, Target]


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """The same before rounding: exact prices by GPU, exact qualities of the members that are not held."""

    prices: Mapping[GpuUuid, Fraction]
    qualities: Mapping[PodUid, Fraction]


def solve(capacities: Mapping[GpuUuid, int], members: Iterable[Member], policy: Policy) -> Equilibrium:
    """The equilibrium of one node's GPUs, whose usable bytes are `capacities`; the order of the members is irrelevant.

    Raises:
        KeyError: a member is on a GPU without a capacity.
    """
    everybody = tuple(members)
    balance = balance_exactly(capacities, everybody, policy)
    targets = {member.uid: _target(member, balance) for member in everybody}
    prices = {}
    for gpu, capacity in capacities.items():
        here = [member for member in everybody if gpu in member.gpus]
        prices[gpu] = GpuPrice(
            price=balance.prices[gpu],
            used=sum(targets[member.uid].vram for member in here),
            capacity=capacity,
            overcommitted=sum(_least(member) for member in here) > capacity,
        )
    return Equilibrium(prices=prices, targets=targets)


def _target(member: Member, balance: Balance) -> Target:
    if member.held is not None:
        return Target(None, member.held)
    return Target(*member.demand.published(balance.qualities[member.uid]))


def _least(member: Member) -> int:
    return member.demand.floor if member.held is None else member.held


def balance_exactly(capacities: Mapping[GpuUuid, int], members: Iterable[Member], policy: Policy) -> Balance:
    """`solve` in exact fractions: bottleneck after bottleneck, the dearest GPU's price is final for its members."""
    gpus = {gpu: _Gpu(capacity=capacity) for gpu, capacity in capacities.items()}
    qualities: dict[PodUid, Fraction] = {}
    for member in members:
        if member.gives_way:
            curve = curve_of(member.demand, policy)
            for gpu in member.gpus:
                gpus[gpu].movable[member] = curve
            continue
        if member.held is None:
            qualities[member.uid] = member.demand.maximum
        for gpu in member.gpus:
            gpus[gpu].fixed += _least(member)
    prices: dict[GpuUuid, Fraction] = {}
    final: dict[GpuUuid, Fraction] = {}
    while len(final) < len(gpus):
        for gpu, state in gpus.items():
            if gpu not in prices:
                prices[gpu] = state.price(policy.pressure_threshold)
        dearest = max(price for gpu, price in prices.items() if gpu not in final)
        bottlenecks = {gpu: gpus[gpu] for gpu, price in prices.items() if gpu not in final and price == dearest}
        final.update(dict.fromkeys(bottlenecks, dearest))
        for member, quality in _settle(bottlenecks, dearest, policy.pressure_threshold).items():
            qualities[member.uid] = quality
            for gpu in member.gpus:
                gpus[gpu].freeze(member, quality)
                if gpu not in final:
                    prices.pop(gpu, None)
    return Balance(prices=final, qualities=qualities)


@dataclass(slots=True, kw_only=True)
class _Gpu:
    """One GPU while the node is being solved: bytes that no price moves, and the curves of those that give way."""

    capacity: int
    fixed: Fraction = Fraction(0)
    movable: dict[Member, Curve] = field(default_factory=dict)

    def freeze(self, member: Member, quality: Fraction) -> None:
        """From now on this member keeps the bytes of this quality."""
        del self.movable[member]
        self.fixed += member.demand.memory(quality)

    def room(self, threshold: Fraction) -> tuple[Fraction, Fraction]:
        """Bytes for those that give way while nobody has to, and the headroom that opens with prices 0 to 1."""
        room = self.capacity - self.fixed
        at_first = min(room, room * threshold)
        return at_first, room - at_first

    def price(self, threshold: Fraction) -> Fraction:
        """The lowest price at which memory fits: a sweep over the bends of what is used beyond the room."""
        at_first, headroom = self.room(threshold)
        excess = sum((member.demand.memory(member.demand.maximum) for member in self.movable), -at_first)
        slope = sum((curve.slope for curve in self.movable.values()), Fraction(0))
        if excess <= 0:
            return LOWEST_PRICE
        at = LOWEST_PRICE
        opening = (Bend(Fraction(0), Fraction(0), -headroom), Bend(Fraction(1), Fraction(0), headroom))
        for bend in sorted([*opening, *(bend for curve in self.movable.values() for bend in curve.bends)]):
            ahead = excess + slope * (bend.price - at)
            if ahead <= 0:
                return at - excess / slope
            excess, at = ahead + bend.jump, bend.price
            if excess <= 0:
                return at
            slope += bend.slope
        return HIGHEST_PRICE

    def excess(self, price: Fraction, qualities: Mapping[Member, Fraction], threshold: Fraction) -> Fraction:
        """Bytes beyond the room at `price` with these qualities."""
        at_first, headroom = self.room(threshold)
        used = sum((member.demand.memory(qualities[member]) for member in self.movable), Fraction(0))
        return used - at_first - headroom * min(max(price, Fraction(0)), Fraction(1))


def _settle(bottlenecks: Mapping[GpuUuid, _Gpu], price: Fraction, threshold: Fraction) -> dict[Member, Fraction]:
    """Qualities at `price` of the members of GPUs that share it; where levels jump there, just enough of them drop."""
    curves = {member: curve for gpu in bottlenecks.values() for member, curve in gpu.movable.items()}
    qualities = {member: member.demand.settle(curve.quality(price)) for member, curve in curves.items()}
    excess = {name: gpu.excess(price, qualities, threshold) for name, gpu in bottlenecks.items()}
    at_the_jump = (member for member, curve in curves.items() if curve.jump_at(price))
    for member in sorted(at_the_jump, key=lambda member: member.drop_order):
        here = [gpu for gpu in member.gpus if gpu in excess]
        if any(excess[gpu] > 0 for gpu in here):
            qualities[member] = member.demand.level_below(qualities[member])
            for gpu in here:
                excess[gpu] += curves[member].jump_at(price)
    return qualities
