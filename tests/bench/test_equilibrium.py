"""How long it takes to price a GPU, exactly beside a bisection in floating point, and what a change elsewhere costs."""

from dataclasses import replace
from fractions import Fraction
from itertools import count, cycle, islice

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from arbiter.demand import Demand, DemandRequest, Level, resolve
from arbiter.equilibrium import Member, solve
from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.units import GIB, MIB
from arbiter.workload import Priority, WorkloadType

GPU = GpuUuid("gpu-0")

LESS = count()
"""Bytes by which a GPU is smaller each time, since the solver keeps its answers."""

KINDS = (
    DemandRequest(workload_type=WorkloadType.LLM_INFERENCE, priority=Priority.HIGH, full=10 * GIB),
    DemandRequest(workload_type=WorkloadType.IMAGE_GENERATION, priority=Priority.BACKGROUND, full=6 * GIB),
    DemandRequest(workload_type=WorkloadType.VIDEO_GENERATION, priority=Priority.LOW, full=12 * GIB),
    DemandRequest(workload_type=WorkloadType.LLM_INFERENCE, full=8 * GIB),
    DemandRequest(
        workload_type=WorkloadType.LLM_INFERENCE,
        full=10 * GIB,
        levels=(Level(quality=Fraction("0.7"), vram=7 * GIB),),
    ),
)


def crowd(size: int, *, gpu: GpuUuid = GPU) -> tuple[int, list[Member]]:
    """Members of one GPU, no two of them alike, and a capacity of three quarters of what they want."""
    demands = [resolve(replace(kind, floor=(4 * GIB - n * MIB))) for n, kind in enumerate(islice(cycle(KINDS), size))]
    members = [Member(uid=PodUid(f"{gpu}/{n}"), demand=demand, gpus=(gpu,)) for n, demand in enumerate(demands)]
    return sum(demand.full for demand in demands) * 3 // 4, members


def bisected(capacity: int, members: list[Member]) -> float:
    """The price of one GPU in mode Adaptive, to a byte or so: what the formulas say, forty times over."""
    low, high = -1.0, 6.0
    for _ in range(40):
        middle = (low + high) / 2
        if sum(bytes_at(member.demand, middle) for member in members) <= capacity:
            high = middle
        else:
            low = middle
    return high


def bytes_at(demand: Demand, price: float) -> float:
    maximum, minimum = float(demand.maximum), float(demand.minimum)
    factor = float(demand.priority.quality_multiplier)
    share = maximum * min(1.0, max(minimum, (1 - 0.5 * min(1.0, max(0.0, price))) * factor))
    quality = min(maximum, max(minimum, share))
    if price < 0:
        quality = maximum + (1 + price) * (quality - maximum)
    quality += min(1.0, max(0.0, price - 1 - demand.priority.level)) * (minimum - quality)
    if demand.levels:
        return max((level.vram for level in demand.levels if level.quality <= quality), default=demand.floor)
    return demand.floor + (quality - minimum) / (maximum - minimum) * (demand.full - demand.floor)


@pytest.mark.parametrize("size", [2, 10, 100])
def test_solver(size: int, benchmark: BenchmarkFixture) -> None:
    benchmark.group = f"price a GPU of {size} members"
    capacity, members = crowd(size)

    def solved() -> float:
        return float(solve({GPU: capacity - next(LESS)}, members, Policy()).prices[GPU].price)

    assert abs(benchmark(solved) - bisected(capacity, members)) < 1e-3


@pytest.mark.parametrize("size", [2, 10, 100])
def test_yardstick_bisection_in_floating_point(size: int, benchmark: BenchmarkFixture) -> None:
    benchmark.group = f"price a GPU of {size} members"
    benchmark(bisected, *crowd(size))


@pytest.mark.parametrize("gpus", [8, 1], ids=["of 8", "yardstick: a node of this one alone"])
def test_change_of_one_gpu(gpus: int, benchmark: BenchmarkFixture) -> None:
    benchmark.group = "a change on one GPU of 10 members"
    node = {GpuUuid(f"gpu-{n}"): crowd(10, gpu=GpuUuid(f"gpu-{n}")) for n in range(gpus)}
    capacities = {gpu: capacity for gpu, (capacity, _) in node.items()}
    everybody = [member for _, members in node.values() for member in members]

    def solved() -> None:
        solve(capacities | {GPU: capacities[GPU] - next(LESS)}, everybody, Policy())

    benchmark(solved)
