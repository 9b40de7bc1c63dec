"""How long to wait before trying again: doubling, with jitter, so that many clients do not come back at once.

Imports the standard library only.
"""

import random


class Backoff:
    """Delays in seconds: `first`, doubling up to `ceiling`, each shortened by up to half at random."""

    def __init__(self, *, first: float = 0.5, ceiling: float = 10.0) -> None:
        self._first = first
        self._ceiling = ceiling
        self._failures = 0

    def next(self) -> float:
        """The delay after one more failure."""
        # The exponent is bounded because 2**n of a long outage no longer fits into a float.
        delay = min(self._ceiling, self._first * 2 ** min(self._failures, 32))
        self._failures += 1
        return random.uniform(delay / 2, delay)

    def reset(self) -> None:
        """Something worked: start again at `first`."""
        self._failures = 0
