"""One allocation from an Arbiter that others use: the whole arbiter beside an account of bytes that decides nothing."""

from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from arbiter import Allocation, Arbiter, ArbiterConfig, GpuMemoryTracker
from arbiter.units import GIB

PRIORITIES = ("Background", "Low", "Normal", "High")
KINDS = ("LlmInference", "ImageGeneration", "VideoGeneration")


@pytest.fixture
def roomy() -> Iterator[Arbiter]:
    """Eight allocations, all at full quality."""
    with Arbiter(ArbiterConfig.for_vram_gb(24)) as arbiter:
        held = [ask(arbiter, number) for number in range(8)]
        yield arbiter
        assert all(allocation.quality_target == 1.0 for allocation in held)


@pytest.fixture
def crowded() -> Iterator[Arbiter]:
    """Eight allocations, all of which give way to a ninth and get back from it."""
    with Arbiter(ArbiterConfig.for_vram_gb(10)) as arbiter:
        held = [ask(arbiter, number) for number in range(8)]
        yield arbiter
        assert all(allocation.memory == GIB for allocation in held)


def ask(arbiter: Arbiter, number: int) -> Allocation:
    return arbiter.request_allocation(KINDS[number % 3], PRIORITIES[number % 4], GIB)


def come_and_go(arbiter: Arbiter) -> float:
    allocation = arbiter.request_allocation("LlmInference", "Normal", GIB)
    allocation.release()
    return allocation.quality_target


@pytest.mark.benchmark(group="request and release one allocation beside eight others")
def test_arbiter(roomy: Arbiter, benchmark: BenchmarkFixture) -> None:
    assert benchmark(come_and_go, roomy) == 1.0


@pytest.mark.benchmark(group="request and release one allocation beside eight others")
def test_arbiter_that_moves_everybody_twice(crowded: Arbiter, benchmark: BenchmarkFixture) -> None:
    assert benchmark(come_and_go, crowded) < 1.0


@pytest.mark.benchmark(group="request and release one allocation beside eight others")
def test_yardstick_account_of_bytes(benchmark: BenchmarkFixture) -> None:
    tracker = GpuMemoryTracker(24 * GIB)

    def come_and_go() -> bool:
        return tracker.try_allocate(GIB) and tracker.deallocate(GIB)

    assert benchmark(come_and_go)
