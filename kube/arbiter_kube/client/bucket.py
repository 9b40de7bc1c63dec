"""A token bucket: so many at once, then so many a second. Pure: the clock is an argument.

Imports nothing.
"""


class TokenBucket:
    """Holds at most `burst` tokens and gains `rate` of them a second."""

    def __init__(self, *, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Takes a token, on credit if there is none, and returns the seconds to wait before using it."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._tokens / self._rate)
