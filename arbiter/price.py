"""The price of one GPU: the lowest at which the memory of those who give way fits. Exact, in whole numbers.

First between which whole prices it lies, by adding up what all have there; then where, by a sweep over the few bends
in between. Imports the standard library only.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, lcm
from operator import mul
from typing import NamedTuple

from arbiter.curves import HIGHEST_PRICE, LOWEST_PRICE, WHOLE_PRICES, Curve


class Room(NamedTuple):
    """Bytes for those who give way: while nobody has to, and the headroom that opens evenly with prices 0 to 1."""

    at_first: Fraction
    headroom: Fraction

    def kept_at(self, price: Fraction) -> Fraction:
        """The headroom that is still closed."""
        return self.headroom and self.headroom * (1 - min(max(price, Fraction(0)), Fraction(1)))


class Crossing(NamedTuple):
    """Where memory begins to fit, and the bytes (rounded up) that jumps at this price must give back."""

    price: Fraction
    excess: int = 0


def lowest_price(curves: Sequence[Curve], room: Room) -> Crossing:
    """The infimum of the prices from -1 to 6 at which the memory of `curves` is at most the room; 6 where at none."""
    at_full = sum([curve.full for curve in curves]) - room.at_first
    if at_full <= 0:
        return Crossing(LOWEST_PRICE)
    scale = lcm(room.at_first.denominator, room.headroom.denominator, *[curve.scale for curve in curves])
    weights = [scale // curve.scale for curve in curves]
    at_first, headroom = int(room.at_first * scale), int(room.headroom * scale)

    def excess_above(number: int) -> int:
        size: int = sum(map(mul, weights, [curve.sizes[number] for curve in curves]))
        return size - at_first - (headroom if WHOLE_PRICES[number] >= 1 else 0)

    excess = excess_above(0)
    if excess <= 0:
        return Crossing(LOWEST_PRICE, ceil(at_full))
    for part, start in enumerate(WHOLE_PRICES[:-1]):
        ahead = excess_above(part + 1)
        if ahead <= 0:
            slope = sum(map(mul, weights, [curve.slopes[part] for curve in curves]))
            opening = headroom if start == 0 else 0
            bends = [
                (bend.price, bend.jump * weight, bend.slope * weight)
                for curve, weight in zip(curves, weights, strict=True)
                for bend in curve.bends[part]
            ]
            return _sweep(bends, start=start, excess=excess, slope=slope - opening, scale=scale)
        excess = ahead
    return Crossing(HIGHEST_PRICE)


def _sweep(bends: Sequence[tuple[Fraction, int, int]], *, start: int, excess: int, slope: int, scale: int) -> Crossing:
    """Where the `excess` just above the whole price `start` is used up, at the latest at the next one.

    `bends` are prices with the jump and the turn of the slope there. All bytes are times `scale`.
    """
    steps = lcm(*[price.denominator for price, _, _ in bends])
    turns = sorted([(price.numerator * (steps // price.denominator), jump, turn) for price, jump, turn in bends])
    at, excess, below = start * steps, excess * steps, 0
    for to, jump, turn in (*turns, ((start + 1) * steps, 0, 0)):
        if to > at:
            below = excess + slope * (to - at)
            if below <= 0:
                return Crossing(Fraction(at * slope - excess, steps * slope))
            at, excess = to, below
        excess += jump * steps
        slope += turn
        if excess <= 0:
            break
    return Crossing(Fraction(at, steps), ceil(Fraction(below, scale * steps)))
