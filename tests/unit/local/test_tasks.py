"""The same for asyncio: the loop goes on, and cancelling gives everything back."""

import asyncio
import math
from collections.abc import Iterator

import pytest

from arbiter.local.arbiter import Arbiter
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import InsufficientMemory, Preempted, ShuttingDown, Timeout
from arbiter.local.request import AllocationOutcome, AllocationRequest
from arbiter.units import GIB
from arbiter.workload import WorkloadType
from tests.unit.local.desk import IMAGE, LLM


@pytest.fixture
def arbiter() -> Iterator[Arbiter]:
    with Arbiter(ArbiterConfig.for_vram_gb(10)) as arbiter:
        yield arbiter


async def is_waiting(arbiter: Arbiter) -> None:
    while arbiter.state().waiting == 0:  # noqa: ASYNC110 - the arbiter tells nobody who waits that somebody waits
        await asyncio.sleep(0)


async def test_a_task_gets_its_memory_when_it_is_free(arbiter: Arbiter) -> None:
    async with await arbiter.arequest_allocation(LLM, "Normal", 8 * GIB) as chat:
        waits = asyncio.create_task(arbiter.arequest_allocation(IMAGE, "Normal", 8 * GIB))
        await is_waiting(arbiter)
        chat.release()
        async with await waits as posters:
            assert posters.memory == 8 * GIB
    assert arbiter.state().vram_used == 0


async def test_a_task_is_told_in_time(arbiter: Arbiter) -> None:
    await arbiter.arequest_allocation(LLM, "Normal", 8 * GIB)
    with pytest.raises(Timeout):
        await arbiter.arequest_allocation(LLM, "Normal", 8 * GIB, timeout=0.05)
    with pytest.raises(InsufficientMemory):
        await arbiter.arequest_allocation(LLM, "Normal", 8 * GIB, no_wait=True)


async def test_cancelling_while_it_waits_gives_everything_back(arbiter: Arbiter) -> None:
    chat = await arbiter.arequest_allocation(LLM, "Normal", 10 * GIB, minimum_memory=4 * GIB)
    waits = asyncio.create_task(arbiter.arequest_allocation(IMAGE, "Normal", 4 * GIB))
    await is_waiting(arbiter)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    chat.acknowledge()
    state = arbiter.state()
    assert (state.waiting, state.active_diffusion, state.vram_available) == (0, 0, 6 * GIB)


async def test_cancelling_just_when_it_got_its_memory_gives_it_back(arbiter: Arbiter) -> None:
    chat = await arbiter.arequest_allocation(LLM, "Normal", 8 * GIB)
    waits = asyncio.create_task(arbiter.arequest_allocation(IMAGE, "Normal", 8 * GIB))
    await is_waiting(arbiter)
    chat.release()
    assert arbiter.state().active_diffusion == 1
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert arbiter.state().vram_used == 0


async def test_changes_are_followed_until_the_release(arbiter: Arbiter) -> None:
    chat = await arbiter.arequest_allocation(LLM, "Normal", 8 * GIB)
    seen: list[float] = []

    async def follow() -> None:
        async for target in chat.changes():
            seen.append(target.quality)

    follows = asyncio.create_task(follow())
    posters = await arbiter.arequest_allocation(IMAGE, "Normal", GIB)
    await asyncio.sleep(0.01)
    posters.release()
    await asyncio.sleep(0.01)
    chat.release()
    await follows
    assert seen == [0.833, 1.0]


async def test_changes_end_with_the_order_to_leave(arbiter: Arbiter) -> None:
    batch = await arbiter.arequest_allocation(LLM, "Background", 8 * GIB)
    urgent = asyncio.create_task(arbiter.arequest_allocation(IMAGE, "High", 6 * GIB))
    with pytest.raises(Preempted):
        async for _ in batch.changes():
            pass
    batch.release()
    assert (await urgent).memory == 6 * GIB


async def test_closing_tells_tasks_that_wait(arbiter: Arbiter) -> None:
    await arbiter.arequest_allocation(LLM, "Normal", 8 * GIB)
    waits = asyncio.create_task(arbiter.arequest_allocation(IMAGE, "Normal", 8 * GIB))
    await is_waiting(arbiter)
    arbiter.close()
    with pytest.raises(ShuttingDown):
        await waits


async def test_results_as_values(arbiter: Arbiter) -> None:
    request = AllocationRequest(workload_type=WorkloadType.LLM_INFERENCE, memory_required=8 * GIB, no_wait=True)
    first, second = await arbiter.aallocate(request), await arbiter.aallocate(request)
    assert (first.outcome, first.error, first.unwrap().memory) == (AllocationOutcome.SUCCESS, None, 8 * GIB)
    assert second.outcome is AllocationOutcome.INSUFFICIENT_MEMORY
    with pytest.raises(InsufficientMemory):
        second.unwrap()


@pytest.mark.parametrize("patience", [math.inf, 1e12])
async def test_a_task_may_wait_for_ever(arbiter: Arbiter, patience: float) -> None:
    chat = await arbiter.arequest_allocation(LLM, "Normal", 8 * GIB)
    waits = asyncio.create_task(arbiter.arequest_allocation(IMAGE, "Normal", 8 * GIB, timeout=patience))
    await is_waiting(arbiter)
    with pytest.raises(Timeout):
        await arbiter.arequest_allocation(LLM, "Normal", 8 * GIB, timeout=0.05)
    chat.release()
    assert (await waits).memory == 8 * GIB
