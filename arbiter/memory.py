"""An account of one GPU's memory that many threads may use at once.

Imports the standard library only. It counts bytes and nothing else: who has them, and at which quality, is the
business of those who use it.
"""

import threading
from dataclasses import dataclass, replace

from arbiter import arguments
from arbiter.workload import MemoryPressure


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStats:
    """A tracker at one moment; sizes in bytes, all exact.

    `current_allocations` is at least one while bytes are in use and none when none are, also where parts were given
    back. `times_critical` counts the allocations that took the pressure to Critical.
    """

    capacity: int
    used: int = 0
    peak: int = 0
    total_allocations: int = 0
    current_allocations: int = 0
    bytes_allocated: int = 0
    bytes_deallocated: int = 0
    times_critical: int = 0

    @property
    def available(self) -> int:
        """Bytes that can still be allocated."""
        return self.capacity - self.used

    @property
    def utilisation(self) -> float:
        """Used share of the capacity, 0..1; without any capacity 1."""
        return self.used / self.capacity if self.capacity else 1.0

    @property
    def pressure(self) -> MemoryPressure:
        """The level of this utilisation."""
        return MemoryPressure.at(self.utilisation)


class GpuMemoryTracker:
    """Counts allocations against a capacity in bytes. Check and reservation are one step, whoever else asks.

    Raises:
        ValueError: `capacity` is no whole number, or below 0.
    """

    def __init__(self, capacity: int) -> None:
        self._lock = threading.Lock()
        self._stats = MemoryStats(capacity=arguments.size(capacity, what="capacity"))

    @property
    def stats(self) -> MemoryStats:
        """All counters, of one moment."""
        return self._stats

    def try_allocate(self, size: int) -> bool:
        """Takes `size` bytes and answers True; or changes nothing and answers False where they do not fit.

        Raises:
            ValueError: `size` is no whole number, or below 1.
        """
        _check(size)
        with self._lock:
            before = self._stats
            if size > before.available:
                return False
            after = replace(
                before,
                used=before.used + size,
                peak=max(before.peak, before.used + size),
                total_allocations=before.total_allocations + 1,
                current_allocations=before.current_allocations + 1,
                bytes_allocated=before.bytes_allocated + size,
            )
            turned = after.pressure is MemoryPressure.CRITICAL and before.pressure is not MemoryPressure.CRITICAL
            self._stats = replace(after, times_critical=before.times_critical + turned)
            return True

    def deallocate(self, size: int) -> bool:
        """Gives `size` bytes back and answers True; or changes nothing and answers False where so many are not in use.

        Raises:
            ValueError: `size` is no whole number, or below 1.
        """
        _check(size)
        with self._lock:
            before = self._stats
            if size > before.used:
                return False
            used = before.used - size
            self._stats = replace(
                before,
                used=used,
                current_allocations=max(before.current_allocations - 1, 1) if used else 0,
                bytes_deallocated=before.bytes_deallocated + size,
            )
            return True


def _check(size: int) -> None:
    if not arguments.size(size, what="size"):
        raise ValueError(f"size should be 1 byte or more, not {size}.")
