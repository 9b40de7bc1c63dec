"""Many threads and tasks at one Arbiter: nothing is lost, nothing is promised twice (real threads)."""

import asyncio
import random
import threading
from collections.abc import Callable

from arbiter.local.arbiter import Arbiter
from arbiter.local.claim import QualityTarget
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import InsufficientMemory
from arbiter.units import GIB, MIB
from arbiter.workload import Priority, WorkloadType
from tests.support.patience import PATIENCE

CAPACITY = 12 * GIB


def run_in_threads(count: int, work: Callable[[random.Random], None]) -> None:
    failures: list[BaseException] = []

    def guarded(seed: int) -> None:
        try:
            work(random.Random(seed))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(seed,)) for seed in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)


class Gpu:
    """The memory that holders really use: more than there is makes the test fail."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.used = 0
        self.most = 0

    def take(self, size: int) -> None:
        with self._lock:
            self.used += size
            self.most = max(self.most, self.used)


def test_64_threads_hammering_lose_nothing() -> None:
    gpu = Gpu()
    with Arbiter(ArbiterConfig(vram_budget=CAPACITY)) as arbiter:

        def work(luck: random.Random) -> None:
            for _ in range(5):
                kind, priority = luck.choice(list(WorkloadType)), luck.choice([Priority.NORMAL, Priority.HIGH])
                size = luck.randrange(1, 2048) * MIB
                with arbiter.request_allocation(kind, priority, size, timeout=PATIENCE) as allocation:
                    gpu.take(allocation.memory)
                    gpu.take(-allocation.memory)

        run_in_threads(64, work)
        state, stats = arbiter.state(), arbiter.stats()
    assert (stats.total_allocations, stats.successful_allocations, stats.failed_allocations) == (320, 320, 0)
    assert (state.vram_used, state.waiting, state.pressure, gpu.used) == (0, 0, 0.0, 0)
    assert gpu.most <= CAPACITY


def test_threads_that_follow_their_targets_never_use_more_than_there_is() -> None:
    gpu = Gpu()
    with Arbiter(ArbiterConfig(vram_budget=CAPACITY, restore_interval=0.0)) as arbiter:

        def work(luck: random.Random) -> None:
            with arbiter.request_allocation("LlmInference", "Normal", 8 * GIB, minimum_memory=GIB) as allocation:
                holds = allocation.memory
                gpu.take(holds)
                for _ in range(10):
                    target = allocation.wait_for_change(luck.random() / 100)
                    if target is None:
                        continue
                    gpu.take(target.memory - holds)
                    holds = target.memory
                    allocation.acknowledge(target)
                gpu.take(-holds)

        run_in_threads(8, work)
        assert arbiter.state().vram_used == 0
    assert (gpu.used, gpu.most <= CAPACITY) == (0, True)


def test_callbacks_and_requests_of_many_threads_do_not_block_each_other() -> None:
    with Arbiter(ArbiterConfig(vram_budget=CAPACITY)) as arbiter:

        def work(luck: random.Random) -> None:
            for _ in range(5):
                allocation = arbiter.request_allocation("ImageGeneration", "Normal", 4 * GIB, minimum_memory=2 * GIB)
                allocation.on_change(allocation.acknowledge)
                if luck.random() < 0.5:
                    arbiter.state()
                allocation.release()

        run_in_threads(16, work)
        assert arbiter.stats().successful_allocations == 80


def test_who_does_not_wait_never_makes_two_fit_where_one_does() -> None:
    held: list[object] = []
    with Arbiter(ArbiterConfig(vram_budget=CAPACITY)) as arbiter:

        def work(_: random.Random) -> None:
            try:
                held.append(arbiter.request_allocation("LlmInference", "Normal", 5 * GIB, no_wait=True))
            except InsufficientMemory:
                held.append(None)

        run_in_threads(16, work)
        assert (len(held), sum(one is not None for one in held), arbiter.state().vram_used) == (16, 2, 10 * GIB)


async def test_a_hundred_tasks_share_one_loop() -> None:
    gpu = Gpu()
    with Arbiter(ArbiterConfig(vram_budget=CAPACITY)) as arbiter:

        async def work(size: int) -> QualityTarget:
            async with await arbiter.arequest_allocation("VideoGeneration", "Normal", size, timeout=PATIENCE) as video:
                gpu.take(video.memory)
                await asyncio.sleep(0)
                gpu.take(-video.memory)
                return video.target

        targets = await asyncio.gather(*(work((1 + number % 8) * GIB) for number in range(100)))
        assert (len(targets), arbiter.state().vram_used) == (100, 0)
    assert gpu.most <= CAPACITY
