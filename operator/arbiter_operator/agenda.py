"""What is to be looked at later: retries, and moments at which time alone changes something.

It goes by the event loop's clock, which nobody sets back. Imports the standard library only.
"""

import asyncio
from collections.abc import Callable, Hashable

Mark = Callable[[], None]


def steady_time() -> float:
    """Seconds of the running event loop's clock: for whatever lasts, where the time of day may be set back."""
    return asyncio.get_running_loop().time()


class Agenda:
    """One callback per key."""

    def __init__(self) -> None:
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}

    def put(self, key: Hashable, delay: float, mark: Mark) -> None:
        """Calls `mark` after so many seconds, in place of what the key stood for before."""
        if key in self._timers:
            self._timers[key].cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(delay, self._call, key, mark)

    def clear(self) -> None:
        """Nothing is called any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _call(self, key: Hashable, mark: Mark) -> None:
        del self._timers[key]
        mark()
