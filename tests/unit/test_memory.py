"""The account of one GPU's memory, alone and among threads."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from arbiter.memory import GpuMemoryTracker, MemoryStats
from arbiter.workload import MemoryPressure

TOLD = {
    "allocated": (
        lambda tracker: [tracker.try_allocate(40), tracker.try_allocate(30)],
        [True, True],
        MemoryStats(capacity=100, used=70, peak=70, total_allocations=2, current_allocations=2, bytes_allocated=70),
    ),
    "too much: nothing changes": (
        lambda tracker: [tracker.try_allocate(40), tracker.try_allocate(61)],
        [True, False],
        MemoryStats(capacity=100, used=40, peak=40, total_allocations=1, current_allocations=1, bytes_allocated=40),
    ),
    "the peak stays": (
        lambda tracker: [tracker.try_allocate(70), tracker.deallocate(70), tracker.try_allocate(10)],
        [True, True, True],
        MemoryStats(
            capacity=100,
            used=10,
            peak=70,
            total_allocations=2,
            current_allocations=1,
            bytes_allocated=80,
            bytes_deallocated=70,
        ),
    ),
    "given back twice: told, and harmless": (
        lambda tracker: [tracker.try_allocate(40), tracker.deallocate(40), tracker.deallocate(40)],
        [True, True, False],
        MemoryStats(capacity=100, peak=40, total_allocations=1, bytes_allocated=40, bytes_deallocated=40),
    ),
    "more given back than was taken: told, and harmless": (
        lambda tracker: [tracker.try_allocate(40), tracker.deallocate(41)],
        [True, False],
        MemoryStats(capacity=100, used=40, peak=40, total_allocations=1, current_allocations=1, bytes_allocated=40),
    ),
    "given back in parts": (
        lambda tracker: [tracker.try_allocate(40), tracker.deallocate(10), tracker.deallocate(10)],
        [True, True, True],
        MemoryStats(
            capacity=100,
            used=20,
            peak=40,
            total_allocations=1,
            current_allocations=1,
            bytes_allocated=40,
            bytes_deallocated=20,
        ),
    ),
    "given back all at once": (
        lambda tracker: [tracker.try_allocate(20), tracker.try_allocate(20), tracker.deallocate(40)],
        [True, True, True],
        MemoryStats(capacity=100, peak=40, total_allocations=2, bytes_allocated=40, bytes_deallocated=40),
    ),
    "taken to critical, and again": (
        lambda tracker: [
            tracker.try_allocate(89),
            tracker.try_allocate(1),
            tracker.try_allocate(5),
            tracker.deallocate(20),
            tracker.try_allocate(20),
        ],
        [True] * 5,
        MemoryStats(
            capacity=100,
            used=95,
            peak=95,
            total_allocations=4,
            current_allocations=3,
            bytes_allocated=115,
            bytes_deallocated=20,
            times_critical=2,
        ),
    ),
}


@pytest.mark.parametrize(("calls", "answers", "stats"), TOLD.values(), ids=TOLD.keys())
def test_a_tracker_of_100_bytes(
    calls: Callable[[GpuMemoryTracker], list[bool]], answers: list[bool], stats: MemoryStats
) -> None:
    tracker = GpuMemoryTracker(100)
    assert (calls(tracker), tracker.stats) == (answers, stats)


@pytest.mark.parametrize(
    ("capacity", "used", "utilisation", "level"),
    [
        (100, 0, 0.0, MemoryPressure.LOW),
        (100, 49, 0.49, MemoryPressure.LOW),
        (100, 50, 0.5, MemoryPressure.MODERATE),
        (100, 75, 0.75, MemoryPressure.HIGH),
        (100, 90, 0.9, MemoryPressure.CRITICAL),
        (0, 0, 1.0, MemoryPressure.CRITICAL),
    ],
)
def test_pressure_is_the_used_share(capacity: int, used: int, utilisation: float, level: MemoryPressure) -> None:
    stats = MemoryStats(capacity=capacity, used=used)
    assert (stats.utilisation, stats.pressure, stats.available) == (utilisation, level, capacity - used)


@pytest.mark.parametrize("size", [0, -1, 0.5, "1"])
def test_sizes_that_are_none_are_refused(size: Any) -> None:
    tracker = GpuMemoryTracker(100)
    for call in (tracker.try_allocate, tracker.deallocate):
        with pytest.raises(ValueError, match=r"^size should be "):
            call(size)
    with pytest.raises(ValueError, match=r"^capacity should be a whole number of bytes, such as 8 \* GIB, not -1\.$"):
        GpuMemoryTracker(-1)


def test_ten_threads_that_each_take_and_give_ten_bytes_a_hundred_times_leave_none_in_use() -> None:
    tracker = GpuMemoryTracker(1000)

    def take_and_give() -> None:
        for _ in range(100):
            assert tracker.try_allocate(10)
            assert tracker.deallocate(10)

    threads = [threading.Thread(target=take_and_give) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    stats = tracker.stats
    assert (stats.used, stats.current_allocations, stats.total_allocations) == (0, 0, 1000)
    assert (stats.bytes_allocated, stats.bytes_deallocated) == (10_000, 10_000)


def test_threads_that_want_more_than_there_is_never_get_it_together() -> None:
    tracker = GpuMemoryTracker(100)
    together = threading.Barrier(8)
    got: list[bool] = []

    def take() -> None:
        together.wait(timeout=60)
        got.extend(tracker.try_allocate(30) for _ in range(20))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (sum(got), len(got), tracker.stats.used) == (3, 160, 90)
