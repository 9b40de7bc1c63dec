"""The agent's one clock. Imports the standard library only."""

import time


class Clock:
    """Seconds since the epoch that never step back, whatever somebody does to the wall clock."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """The time."""
        return self._offset + time.monotonic()

    def wall(self, at: float) -> float:
        """The latest that the wall clock can have shown at a time of ours: somebody may have put it forward."""
        return at + max(0.0, time.time() - self.now())
