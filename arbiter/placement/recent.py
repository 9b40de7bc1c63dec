"""What was worked out for those who asked last, with a bound on all of it. Imports the standard library only."""

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Something that remembers `size` things; `counted` is its size when it was counted last."""

    counted: int

    @property
    def size(self) -> int:
        """How many, about 200 bytes each."""


_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value", bound=Sized)


class Recent(Generic[_Key, _Value]):
    """Values that are made when asked for; of more than `at_most` things in all the longest unused are dropped."""

    def __init__(self, make: Callable[[_Key], _Value], *, at_most: int) -> None:
        self._make = make
        self._at_most = at_most
        self._values: dict[_Key, _Value] = {}
        """Those that were asked for last at the end."""
        self._kept = 0

    def __getitem__(self, key: _Key) -> _Value:
        value = self._values.pop(key, None) or self._make(key)
        self._values[key] = value
        return value

    def count(self, value: _Value) -> None:
        """Counts what one of them remembers anew, and drops others where it is too much."""
        before, value.counted = value.counted, value.size
        self._kept += value.counted - before
        while self._kept > self._at_most and len(self._values) > 1:
            self._kept -= self._values.pop(next(iter(self._values))).counted

    def clear(self) -> None:
        """Nothing is known any more."""
        self._values.clear()
        self._kept = 0
