"""Exact piecewise-linear functions, composed like the formulas that they stand for.

Imports the standard library only. Everything is a fraction: breakpoints and values carry no rounding.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

Knot = tuple[Fraction, Fraction]
"""A point (x, y) of a function."""


@dataclass(frozen=True, slots=True)
class Piecewise:
    """A continuous function on a closed interval, linear between its `knots`, which ascend strictly in x."""

    knots: tuple[Knot, ...]

    def __call__(self, x: Fraction) -> Fraction:
        """The value at `x`, which must lie in the interval."""
        part = self.part_above(x)
        return _between(self.knots[part], self.knots[part + 1], x)

    @property
    def slopes(self) -> tuple[Fraction, ...]:
        """How it rises on each of its parts."""
        return tuple((right[1] - left[1]) / (right[0] - left[0]) for left, right in pairwise(self.knots))

    def part_above(self, x: Fraction) -> int:
        """The number of the part on which it goes on from `x`; at its end the last."""
        return min(bisect_right(self.knots, x, key=lambda knot: knot[0]), len(self.knots) - 1) - 1

    def scale(self, factor: Fraction) -> "Piecewise":
        """This function times `factor`."""
        return Piecewise(tuple((x, y * factor) for x, y in self.knots))

    def shift(self, offset: Fraction) -> "Piecewise":
        """This function plus `offset`."""
        return Piecewise(tuple((x, y + offset) for x, y in self.knots))

    def clamp(self, low: Fraction, high: Fraction) -> "Piecewise":
        """This function, never below `low` nor above `high`."""
        crossed = _with_crossings(tuple(_with_crossings(self.knots, low)), high)
        return Piecewise(tuple((x, min(max(y, low), high)) for x, y in crossed))

    def last_at_least(self, y: Fraction) -> Fraction:
        """The last x of a falling function at which its value is `y` or more; its first value must be."""
        for left, right in pairwise(self.knots):
            if right[1] < y:
                return _crossing(left, right, y)
        return self.knots[-1][0]


def joined(*knots: Knot) -> Piecewise:
    """The function through these points; a repeated point counts once."""
    return Piecewise(tuple(dict.fromkeys(knots)))


def _between(left: Knot, right: Knot, x: Fraction) -> Fraction:
    return left[1] + (right[1] - left[1]) * (x - left[0]) / (right[0] - left[0])


def _crossing(left: Knot, right: Knot, y: Fraction) -> Fraction:
    return left[0] + (right[0] - left[0]) * (y - left[1]) / (right[1] - left[1])


def _with_crossings(knots: tuple[Knot, ...], y: Fraction) -> Iterator[Knot]:
    """The same points with one more wherever the function passes through `y` between two of them."""
    yield knots[0]
    for left, right in pairwise(knots):
        if (left[1] - y) * (right[1] - y) < 0:
            yield _crossing(left, right, y), y
        yield right
