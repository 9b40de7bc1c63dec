"""What waits to be written, counted where it repeats: everybody has their turn, however much another one has to tell.

Imports the standard library only.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """Up to `capacity` items, of owners that take turns; of each the oldest first."""

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: OrderedDict[str, OrderedDict[T, int]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, item: T, *, owner: str) -> bool:
        """Takes the item, or counts it up; False where one had to be forgotten: the newest of whoever has most."""
        mine = self._waiting.setdefault(owner, OrderedDict())
        if item in mine:
            mine[item] += 1
            return True
        mine[item] = 1
        self._length += 1
        if self._length <= self._capacity:
            return True
        most = max(self._waiting, key=lambda each: len(self._waiting[each]))
        self._waiting[most].popitem()
        self._settle(most)
        return False

    def take(self) -> tuple[T, int]:
        """The next item, and how often it was put; KeyError where there is none."""
        owner = next(iter(self._waiting), "")
        taken = self._waiting[owner].popitem(last=False)
        self._waiting.move_to_end(owner)
        self._settle(owner)
        return taken

    def _settle(self, owner: str) -> None:
        self._length -= 1
        if not self._waiting[owner]:
            del self._waiting[owner]
