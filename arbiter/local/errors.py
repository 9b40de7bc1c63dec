"""What the library's Arbiter refuses a request or ends an allocation with. Imports the standard library only.

The names are the reference coordinator's::

    ArbiterError
    ├── InsufficientMemory     no room, and the request does not wait (or could never fit)
    ├── InsufficientQuality    room, but not for the quality that was asked for
    ├── Preempted              something more important needs the room
    ├── Timeout                waited for as long as it was allowed to; a TimeoutError too
    ├── ShuttingDown           the arbiter is closed, or the allocation is released
    └── Internal               a defect of Arbiter itself, or the system gives it no thread
"""

from arbiter.units import MIB


class ArbiterError(Exception):
    """Anything that an Arbiter answers instead of an allocation."""


class InsufficientMemory(ArbiterError):
    """Memory for the request is not free; `requested` and `available` in MiB, rounded up and down."""

    def __init__(self, *, requested: int, available: int, reason: str = "") -> None:
        """Sizes in bytes; `reason` says what keeps bytes from the request that are free."""
        self.requested = -(-requested // MIB)
        self.available = max(0, available) // MIB
        sentence = f"{self.requested} MiB were requested and {self.available} MiB are available"
        super().__init__(f"{sentence}: {reason}." if reason else f"{sentence}.")


class InsufficientQuality(ArbiterError):
    """The request would run below the least quality that it asked for; `minimum` and `available` are 0..1."""

    def __init__(self, *, minimum: float, available: float) -> None:
        self.minimum = minimum
        self.available = available
        super().__init__(f"a quality of at least {minimum:.3f} was requested and {available:.3f} is available.")


class Preempted(ArbiterError):
    """A request of a priority at least two levels higher needs the room; release the allocation."""

    def __init__(self, *, victim: str, by: str) -> None:
        super().__init__(f"{victim} has to leave for {by}, whose priority is at least two levels higher.")


class Timeout(ArbiterError, TimeoutError):
    """The request waited `duration` seconds for room and got none."""

    def __init__(self, *, duration: float, reason: str) -> None:
        self.duration = duration
        super().__init__(f"waited {duration:g} s in vain: {reason}")


class ShuttingDown(ArbiterError):
    """Nothing is given out and nothing changes any more."""


class Internal(ArbiterError):
    """Arbiter itself cannot go on; the text says why."""
