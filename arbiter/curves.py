"""How a member's quality and memory answer to the price of its GPU.

The quality curve is the reference coordinator's formula with the price in the place of the pressure, extended on both
sides: below price 0 nobody need give way, above 1 the lowest priorities give way first. Imports the standard library
only.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from arbiter.demand import Demand
from arbiter.formula import calculated_quality, coordinated_quality
from arbiter.piecewise import Piecewise, joined
from arbiter.policy import Policy

LOWEST_PRICE, HIGHEST_PRICE = Fraction(-1), Fraction(6)

_ZERO, _ONE = Fraction(0), Fraction(1)


class Bend(NamedTuple):
    """Where a member's memory jumps (bytes) or its slope changes (bytes per unit of price)."""

    price: Fraction
    jump: Fraction
    slope: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A movable member over prices -1 to 6: its quality, and the bends of its memory, ascending in price.

    Memory starts at `full` with `slope` and never rises. At the price of a jump it still has the bytes before it.
    """

    quality: Piecewise
    slope: Fraction
    bends: tuple[Bend, ...]

    def jump_at(self, price: Fraction) -> Fraction:
        """Bytes that a member with levels gives back just above `price`, as a negative number; else 0."""
        return next((bend.jump for bend in self.bends if bend.price == price), _ZERO)


def quality_curve(demand: Demand, policy: Policy) -> Piecewise:
    """Quality over prices -1 to 6; continuous, never rising, from `maximum` to `minimum`."""
    calculated = calculated_quality(demand.priority, minimum=demand.minimum)
    coordinated = coordinated_quality(calculated, demand.workload_type, policy)
    shared = coordinated.scale(demand.maximum).clamp(demand.minimum, demand.maximum)
    scarce = 1 + Fraction(demand.priority.level)
    return joined(
        (LOWEST_PRICE, demand.maximum),
        *shared.knots,
        (scarce, shared(_ONE)),
        (scarce + 1, demand.minimum),
        (HIGHEST_PRICE, demand.minimum),
    )


@lru_cache(maxsize=4096)
def curve_of(demand: Demand, policy: Policy) -> Curve:
    """The curve of a demand whose quality can move."""
    quality = quality_curve(demand, policy)
    if demand.levels:
        return Curve(quality=quality, slope=_ZERO, bends=tuple(_jumps(demand, quality)))
    per_quality = (demand.full - demand.floor) / (demand.maximum - demand.minimum)
    slopes = [per_quality * (right[1] - left[1]) / (right[0] - left[0]) for left, right in pairwise(quality.knots)]
    turns = zip(quality.knots[1:], pairwise([*slopes, _ZERO]), strict=True)
    bends = (Bend(price=knot[0], jump=_ZERO, slope=after - before) for knot, (before, after) in turns)
    return Curve(quality=quality, slope=slopes[0], bends=tuple(bend for bend in bends if bend.slope))


def _jumps(demand: Demand, quality: Piecewise) -> list[Bend]:
    """One jump per level above the lowest, at the last price at which the quality still reaches it."""
    downward = reversed(list(pairwise(demand.levels)))
    return [
        Bend(price=quality.last_at_least(above.quality), jump=Fraction(below.vram - above.vram), slope=_ZERO)
        for below, above in downward
    ]
