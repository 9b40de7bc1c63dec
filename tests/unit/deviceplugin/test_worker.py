"""A driver's calls in a thread of their own."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from arbiter_deviceplugin.backends import BackendError
from arbiter_deviceplugin.backends.worker import Worker
from tests.support.patience import PATIENCE

LIMIT = 0.05


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("driver", limit=LIMIT)
    yield worker
    worker.stop()


async def test_an_answer_that_is_there_when_a_loop_that_stood_still_goes_on_counts(worker: Worker) -> None:
    has_answered = threading.Event()
    call = asyncio.create_task(worker.run(lambda: "an answer"))
    next_ = asyncio.create_task(worker.run(has_answered.set))
    await asyncio.sleep(0)
    assert has_answered.wait(PATIENCE)

    time.sleep(2 * LIMIT)  # noqa: ASYNC251 - a machine that has no time for the loop

    assert await call == "an answer"
    await asyncio.gather(next_, return_exceptions=True)  # whether it was in time is the machine's affair


async def test_a_call_that_hangs_fails_and_so_does_each_until_it_has_returned(worker: Worker) -> None:
    let_go = threading.Event()

    with pytest.raises(BackendError, match=r"^driver did not answer within 0\.05 s\.$"):
        await worker.run(let_go.wait)
    with pytest.raises(BackendError, match=r"^driver has not answered an earlier call yet\.$"):
        await worker.run(lambda: None)

    let_go.set()
    async with asyncio.timeout(PATIENCE):
        while worker.is_stuck:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)


async def test_what_a_call_raises_is_raised_where_it_was_asked_for() -> None:
    patient = Worker("driver", limit=PATIENCE)

    with pytest.raises(ZeroDivisionError):
        await patient.run(lambda: 1 // 0)

    patient.stop()
