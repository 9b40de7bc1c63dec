"""How a member's quality and memory answer to the price of its GPU.

The quality curve is the reference coordinator's formula with the price in the place of the pressure, extended on both
sides: below price 0 nobody need give way, above 1 the lowest priorities give way first. Curves are kept in whole
numbers over a scale of their own, so that those of a GPU add up fast and exactly. Imports the standard library only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import ceil, lcm
from typing import NamedTuple

from arbiter.demand import Demand, Level
from arbiter.formula import calculated_quality, coordinated_quality
from arbiter.piecewise import Knot, Piecewise, joined
from arbiter.policy import Policy
from arbiter.workload import Priority, WorkloadType

LOWEST_PRICE, HIGHEST_PRICE = Fraction(-1), Fraction(6)

WHOLE_PRICES = range(-1, 7)
"""Every curve may bend at these; in between it bends where a clamp ends, and jumps where a level is left."""

_ONE = Fraction(1)


class Bend(NamedTuple):
    """Where a member's memory jumps, or its slope per unit of price changes: bytes times the curve's `scale`."""

    price: Fraction
    jump: int = 0
    slope: int = 0


class Piece(NamedTuple):
    """Quality (rise · price + start) / scale up to and including the price `end` / `per`.

    `jump`: bytes that are given back just above that price, as a negative number.
    """

    end: int
    per: int
    rise: int
    start: int
    scale: int
    jump: int = 0

    def quality(self, price: Fraction) -> Fraction:
        """The quality at a price on this piece."""
        x, unit = price.as_integer_ratio()
        return Fraction(self.rise * x + self.start * unit, self.scale * unit)

    def drops_at(self, price: Fraction) -> bool:
        """Whether a member gives bytes back just above this price, which is on this piece."""
        return self.jump < 0 and price * self.per == self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A movable member over prices -1 to 6. At the price of a jump it still has what it had below.

    Memory is in bytes times `scale`, which makes them whole (`full`, at price -1, is in bytes): `sizes` just above each
    whole price, `slopes` how they go on from there per unit of price, `bends` what changes this above that price and
    up to the next. Quality is made of `pieces`; with levels each is one level.
    """

    full: int
    scale: int
    sizes: tuple[int, ...]
    slopes: tuple[int, ...]
    bends: tuple[tuple[Bend, ...], ...]
    pieces: tuple[Piece, ...]

    def piece_at(self, price: Fraction) -> int:
        """The number of the piece that `price`, at most 6, is on."""
        x, unit = price.as_integer_ratio()
        for number, piece in enumerate(self.pieces):
            if x * piece.per <= piece.end * unit:
                return number
        raise ValueError(f"a price is at most {HIGHEST_PRICE}, not {price}")


class _Kind(NamedTuple):
    """All of a demand that its quality depends on."""

    workload_type: WorkloadType
    priority: Priority
    maximum: Fraction
    minimum: Fraction


def _kind_of(demand: Demand) -> _Kind:
    return _Kind(demand.workload_type, demand.priority, demand.maximum, demand.minimum)


def quality_curve(demand: Demand, policy: Policy) -> Piecewise:
    """Quality over prices -1 to 6; continuous, never rising, from `maximum` to `minimum`."""
    return _quality_curve(_kind_of(demand), policy)


@lru_cache(maxsize=4096)
def _quality_curve(kind: _Kind, policy: Policy) -> Piecewise:
    calculated = calculated_quality(kind.priority, minimum=kind.minimum)
    coordinated = coordinated_quality(calculated, kind.workload_type, policy)
    shared = coordinated.scale(kind.maximum).clamp(kind.minimum, kind.maximum)
    scarce = 1 + Fraction(kind.priority.level)
    return joined(
        (LOWEST_PRICE, kind.maximum),
        *shared.knots,
        (scarce, shared(_ONE)),
        (scarce + 1, kind.minimum),
        (HIGHEST_PRICE, kind.minimum),
    )


@lru_cache(maxsize=64)
def curves_under(policy: Policy) -> Callable[[Demand], Curve | None]:
    """What gives the curve of a demand under `policy`, or None where its quality never moves."""

    @lru_cache(maxsize=4096)
    def curve_of(demand: Demand) -> Curve | None:
        if demand.is_fixed:
            return None
        return _stepped(demand, policy) if demand.levels else _smooth(demand, policy)

    return curve_of


def _smooth(demand: Demand, policy: Policy) -> Curve:
    """Memory follows quality: the curve of its kind, stretched from the floor to full."""
    share = _share_curve(_kind_of(demand), policy)
    span = demand.full - demand.floor
    return Curve(
        full=demand.full,
        scale=share.scale,
        sizes=tuple(demand.floor * share.scale + span * size for size in share.sizes),
        slopes=tuple(span * slope for slope in share.slopes),
        bends=tuple(tuple(Bend(bend.price, slope=span * bend.slope) for bend in part) for part in share.bends),
        pieces=share.pieces,
    )


@lru_cache(maxsize=4096)
def _share_curve(kind: _Kind, policy: Policy) -> Curve:
    """The curve of a movable demand without floor whose full size is one byte."""
    quality, span = _quality_curve(kind, policy), kind.maximum - kind.minimum
    memory = quality.shift(-kind.minimum).scale(1 / span)
    sizes = [memory(Fraction(price)) for price in WHOLE_PRICES]
    slopes = memory.slopes
    scale = lcm(*(number.denominator for number in (*sizes, *slopes)))
    turns = zip(memory.knots[1:], pairwise(slopes), strict=False)
    return Curve(
        full=1,
        scale=scale,
        sizes=tuple(int(size * scale) for size in sizes),
        slopes=tuple(int(slopes[memory.part_above(Fraction(price))] * scale) for price in WHOLE_PRICES[:-1]),
        bends=_by_unit([Bend(price, slope=int((after - before) * scale)) for (price, _), (before, after) in turns]),
        pieces=tuple(map(_piece, pairwise(quality.knots), quality.slopes)),
    )


def _piece(knots: tuple[Knot, Knot], slope: Fraction) -> Piece:
    (left, first), (right, _) = knots
    start = first - slope * left
    scale = lcm(slope.denominator, start.denominator)
    return Piece(
        *right.as_integer_ratio(),
        rise=int(slope * scale),
        start=int(start * scale),
        scale=scale,
    )


def _stepped(demand: Demand, policy: Policy) -> Curve:
    """A level is left at the last price at which the quality still reaches it."""
    quality = quality_curve(demand, policy)
    downward = [*pairwise(reversed(demand.levels))]
    jumps = [Bend(quality.last_at_least(above.quality), jump=below.vram - above.vram) for above, below in downward]
    left = [*jumps, Bend(HIGHEST_PRICE)]
    return Curve(
        full=demand.full,
        scale=1,
        sizes=tuple(demand.full + sum(bend.jump for bend in jumps if bend.price <= price) for price in WHOLE_PRICES),
        slopes=(0,) * len(WHOLE_PRICES[:-1]),
        bends=_by_unit(jumps),
        pieces=tuple(map(_level, reversed(demand.levels), left)),
    )


def _level(level: Level, left: Bend) -> Piece:
    quality, scale = level.quality.as_integer_ratio()
    return Piece(
        *left.price.as_integer_ratio(),
        rise=0,
        start=quality,
        scale=scale,
        jump=left.jump,
    )


def _by_unit(bends: Sequence[Bend]) -> tuple[tuple[Bend, ...], ...]:
    """Those between each two whole prices, and where they jump at the upper one."""
    real = [bend for bend in bends if bend.jump or (bend.slope and bend.price.denominator > 1)]
    return tuple(tuple(bend for bend in real if ceil(bend.price) == upper) for upper in WHOLE_PRICES[1:])
