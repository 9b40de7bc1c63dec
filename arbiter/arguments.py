"""What people hand to the library: taken as it is, or refused in one sentence that names it and says what to write.

Imports the standard library only.
"""

from enum import Enum
from math import inf, isfinite, isnan
from numbers import Real
from typing import TypeVar

LONGEST_WAIT = 86400.0
"""Seconds. Locks and selectors refuse what they cannot count, so that whoever waits longer waits again."""

_Named = TypeVar("_Named", bound=Enum)
_Kind = TypeVar("_Kind")


def one_of(kind: type[_Named], name: object) -> _Named:
    """The member of that name.

    Raises:
        ValueError: there is none.
    """
    try:
        return kind(name)
    except ValueError as error:
        names = ", ".join(str(member.value) for member in kind)
        raise ValueError(f'"{name}" is no {kind.__name__}; write one of {names}.') from error


def size(value: object, *, what: str) -> int:
    """A whole number of bytes, 0 or more.

    Raises:
        ValueError: it is none.
    """
    return _whole(value, what=what, example=" of bytes, such as 8 * GIB")


def count(value: object, *, what: str) -> int:
    """A whole number, 0 or more.

    Raises:
        ValueError: it is none.
    """
    return _whole(value, what=what, example=" of 0 or more")


def seconds(value: object, *, what: str) -> float:
    """A time of 0 or more, infinity included.

    Raises:
        ValueError: it is none.
    """
    number = _number(value)
    if number is None or not number >= 0:
        raise ValueError(f"{what} should be 0 seconds or more, not {value!r}.")
    return number


def clamped(value: object, *, what: str) -> float:
    """A number, held to 0..1.

    Raises:
        ValueError: it is none.
    """
    number = _number(value)
    if number is None:
        raise ValueError(f"{what} should be a number from 0 to 1, not {value!r}.")
    return min(max(number, 0.0), 1.0)


def finite(value: object, *, what: str) -> float:
    """A number that is neither infinite nor none at all.

    Raises:
        ValueError: it is none.
    """
    number = _number(value)
    if number is None or not isfinite(number):
        raise ValueError(f"{what} should be a number, not {value!r}.")
    return number


def flag(value: object, *, what: str) -> bool:
    """True or False: who writes anything else, such as the word "false", may mean what Python does not take it for.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{what} should be True or False, not {value!r}.")
    return value


def instance(kind: type[_Kind], value: object, *, what: str, example: str) -> _Kind:
    """An object of that class.

    Raises:
        TypeError: it is of another.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{what} should be of class {kind.__name__}, such as {example}, not {value!r}.")
    return value


def function(value: object, *, what: str) -> None:
    """Something that can be called.

    Raises:
        TypeError: it is none.
    """
    if not callable(value):
        raise TypeError(f"{what} should be a function, such as allocation.acknowledge, not {value!r}.")


def _whole(value: object, *, what: str, example: str) -> int:
    # Half bytes would go unnoticed as far as the exact fractions that targets are computed with.
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{what} should be a whole number{example}, not {value!r}.")
    return value


def _number(value: object) -> float | None:
    """None where it is none, or not a number by name; what no float can hold is infinite."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return -inf if value < 0 else inf
    return None if isnan(number) else number
