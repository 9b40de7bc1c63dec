"""The quality equilibrium: one price per GPU, from which every member's quality and memory follow.

A pure function of the members, without memory: two leaders, or one before and after a restart, decide the same.
Formulas and a worked example: docs/quality.md. Imports the standard library only.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from arbiter.curves import LOWEST_PRICE, Curve, curves_under
from arbiter.demand import Demand
from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.price import Crossing, Room, lowest_price
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

    `overcommitted`: floors and held bytes alone exceed the capacity. `headroom`: bytes that the policy's threshold
    keeps at this price from those who give way.
    """

    price: Fraction
    used: int
    capacity: int
    overcommitted: bool
    headroom: int = 0

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
    """The same before rounding: exact prices and headrooms by GPU, exact qualities of the members that are not held."""

    prices: Mapping[GpuUuid, Fraction]
    headrooms: Mapping[GpuUuid, Fraction]
    qualities: Mapping[PodUid, Fraction]


def _components(
    capacities: Iterable[GpuUuid], members: tuple[Member, ...]
) -> Iterator[tuple[tuple[GpuUuid, ...], tuple[Member, ...]]]:
    """GPUs that members couple, with all of their members."""
    coupled: dict[GpuUuid, tuple[GpuUuid, ...]] = {gpu: (gpu,) for gpu in capacities}
    for member in members:
        if len(member.gpus) > 1:
            together = tuple({gpu: None for own in member.gpus for gpu in coupled[own]})
            coupled.update(dict.fromkeys(together, together))
    here: dict[tuple[GpuUuid, ...], list[Member]] = {gpus: [] for gpus in coupled.values()}
    for member in members:
        here[coupled[member.gpus[0]]].append(member)
    return ((gpus, tuple(found)) for gpus, found in here.items())


def _solve_component(
    capacities: tuple[tuple[GpuUuid, int], ...], members: tuple[Member, ...], policy: Policy
) -> Equilibrium:
    balance = balance_exactly(dict(capacities), members, policy)
    targets = {member.uid: _target(member, balance) for member in members}
    prices = {}
    for gpu, capacity in capacities:
        here = [member for member in members if gpu in member.gpus]
        prices[gpu] = GpuPrice(
            price=balance.prices[gpu],
            used=sum([targets[member.uid].vram for member in here]),
            capacity=capacity,
            overcommitted=sum([_least(member) for member in here]) > capacity,
            headroom=int(balance.headrooms[gpu]),
        )
    return Equilibrium(prices=prices, targets=targets)


def _target(member: Member, balance: Balance) -> Target:
    if member.held is not None:
        return Target(None, member.held)
    return Target(*member.demand.published(balance.qualities[member.uid]))


def _least(member: Member) -> int:
    return member.demand.floor if member.held is None else member.held


class Solver:
    """Solves nodes, and keeps the answers of the last `kept` GPUs: what has not changed costs a look-up."""

    def __init__(self, *, kept: int) -> None:
        self._solve_component = lru_cache(maxsize=kept)(_solve_component)

    def solve(self, capacities: Mapping[GpuUuid, int], members: Iterable[Member], policy: Policy) -> Equilibrium:
        """The equilibrium of one node's GPUs, whose usable bytes are `capacities`; the members' order is irrelevant.

        GPUs that no member couples are solved apart.

        Raises:
            KeyError: a member is on a GPU without a capacity.
        """
        everybody = tuple(members)
        prices: dict[GpuUuid, GpuPrice] = {}
        targets: dict[PodUid, Target] = {}
        for gpus, coupled in _components(capacities, everybody):
            solved = self._solve_component(tuple((gpu, capacities[gpu]) for gpu in gpus), coupled, policy)
            prices.update(solved.prices)
            targets.update(solved.targets)
        return Equilibrium(
            prices={gpu: prices[gpu] for gpu in capacities},
            targets={member.uid: targets[member.uid] for member in everybody},
        )


solve = Solver(kept=1024).solve


def balance_exactly(capacities: Mapping[GpuUuid, int], members: Iterable[Member], policy: Policy) -> Balance:
    """`solve` in exact fractions: bottleneck after bottleneck, the dearest GPU's price is final for its members.

    The order is that of max-min fair flow control (Bertsekas and Gallager, Data Networks, 6.5.2): prices for rates.
    """
    gpus = {gpu: _Gpu(capacity=capacity) for gpu, capacity in capacities.items()}
    qualities: dict[PodUid, Fraction] = {}
    curve_of = curves_under(policy)
    for member in members:
        curve = curve_of(member.demand) if member.held is None else None
        for gpu in member.gpus:
            if curve is None:
                gpus[gpu].fixed += _least(member)
            else:
                gpus[gpu].movable[member.uid] = member, curve
        if curve is None and member.held is None:
            qualities[member.uid] = member.demand.maximum
    rooms: dict[GpuUuid, Room] = {}
    crossings: dict[GpuUuid, Crossing] = {}
    final: dict[GpuUuid, Fraction] = {}
    while len(final) < len(gpus):
        open_gpus = [gpu for gpu in gpus if gpu not in final]
        for gpu in open_gpus:
            if gpu not in crossings:
                rooms[gpu] = gpus[gpu].room(policy.pressure_threshold)
                crossings[gpu] = lowest_price([curve for _, curve in gpus[gpu].movable.values()], rooms[gpu])
        dearest = max([crossings[gpu].price for gpu in open_gpus])
        bottlenecks = [gpu for gpu in open_gpus if crossings[gpu].price == dearest]
        final.update(dict.fromkeys(bottlenecks, dearest))
        movable = {uid: mover for gpu in bottlenecks for uid, mover in gpus[gpu].movable.items()}
        settled = _settle(movable, dearest, excess={gpu: crossings[gpu].excess for gpu in bottlenecks})
        qualities.update(settled)
        for uid, (member, _) in movable.items():
            for gpu in member.gpus:
                if gpu not in final:
                    gpus[gpu].freeze(member, settled[uid])
                    crossings.pop(gpu, None)
    return Balance(
        prices=final, headrooms={gpu: rooms[gpu].kept_at(price) for gpu, price in final.items()}, qualities=qualities
    )


_Mover = tuple[Member, Curve]
"""A member that gives way, and how."""


@dataclass(slots=True, kw_only=True)
class _Gpu:
    """One GPU while the node is being solved: bytes that no price moves, and those who give way."""

    capacity: int
    fixed: Fraction = Fraction(0)
    movable: dict[PodUid, _Mover] = field(default_factory=dict)

    def freeze(self, member: Member, quality: Fraction) -> None:
        """From now on this member keeps the bytes of this quality."""
        del self.movable[member.uid]
        self.fixed += member.demand.memory(quality)

    def room(self, threshold: Fraction) -> Room:
        """What is left for those who give way."""
        room = self.capacity - self.fixed
        at_first = min(room, room * threshold)
        return Room(at_first, room - at_first)


def _settle(movable: Mapping[PodUid, _Mover], price: Fraction, *, excess: dict[GpuUuid, int]) -> dict[PodUid, Fraction]:
    """Qualities at the `price` that GPUs share; where levels jump there, just enough of their members drop.

    `excess`: the bytes beyond each of these GPUs before anybody drops.
    """
    numbers = {uid: curve.piece_at(price) for uid, (_, curve) in movable.items()}
    if any(beyond > 0 for beyond in excess.values()):
        for member, curve in sorted(movable.values(), key=lambda mover: mover[0].drop_order):
            piece = curve.pieces[numbers[member.uid]]
            here = [gpu for gpu in member.gpus if gpu in excess]
            if piece.drops_at(price) and any(excess[gpu] > 0 for gpu in here):
                numbers[member.uid] += 1
                for gpu in here:
                    excess[gpu] += piece.jump
    return {uid: curve.pieces[numbers[uid]].quality(price) for uid, (_, curve) in movable.items()}
