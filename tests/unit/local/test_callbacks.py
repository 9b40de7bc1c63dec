"""What callbacks may do without harm to anybody: fail, end, take their time, wait for who closes (real threads)."""

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from arbiter.local.allocation import Allocation
from arbiter.local.arbiter import Arbiter
from arbiter.local.claim import QualityTarget
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import Internal, ShuttingDown
from arbiter.local.worker import Caller
from arbiter.units import GIB
from tests.support.patience import PATIENCE
from tests.unit.local.desk import IMAGE, LLM


@pytest.fixture
def arbiter() -> Iterator[Arbiter]:
    with Arbiter(ArbiterConfig.for_vram_gb(10)) as arbiter:
        yield arbiter


@pytest.mark.parametrize("fail", [lambda _: 1 / 0, lambda _: sys.exit()], ids=["an error", "the end of the thread"])
def test_what_a_callback_raises_starves_no_other_of_the_same_allocation(
    arbiter: Arbiter, caplog: pytest.LogCaptureFixture, fail: Callable[[QualityTarget], object]
) -> None:
    chat, is_told = arbiter.request_allocation(LLM, "Normal", 8 * GIB), threading.Event()
    chat.on_change(fail)
    chat.on_change(lambda _: is_told.set())
    with caplog.at_level(logging.ERROR):
        posters = arbiter.request_allocation(IMAGE, "Normal", GIB)
        assert is_told.wait(PATIENCE)
        is_told.clear()
        posters.release()
        assert is_told.wait(PATIENCE), "callbacks have ended"
    assert "a callback of an allocation has failed" in caplog.text


def test_a_callback_is_a_function(arbiter: Arbiter) -> None:
    chat, nothing = arbiter.request_allocation(LLM, "Normal", GIB), None
    wrong: Any = nothing
    with pytest.raises(TypeError, match=r"^callback should be a function, such as allocation.acknowledge, not None\.$"):
        chat.on_change(wrong)


def test_a_callback_that_is_there_twice_is_called_twice_and_taken_off_one_at_a_time(arbiter: Arbiter) -> None:
    chat, called = arbiter.request_allocation(LLM, "Normal", 8 * GIB), threading.Semaphore(0)

    def count(_: QualityTarget) -> None:
        called.release()

    stop, _ = chat.on_change(count), chat.on_change(count)
    posters = arbiter.request_allocation(IMAGE, "Normal", GIB)
    assert [called.acquire(timeout=PATIENCE) for _ in range(2)] == [True, True]
    stop()
    stop()
    posters.release()
    assert called.acquire(timeout=PATIENCE)
    arbiter.close()
    assert not called.acquire(blocking=False)


def test_what_is_posted_again_and_again_while_another_job_runs_is_run_once() -> None:
    lock, is_busy, go_on, is_through = threading.Lock(), threading.Event(), threading.Event(), threading.Event()
    ran: list[str] = []

    def dawdle() -> None:
        is_busy.set()
        go_on.wait(PATIENCE)

    def work() -> None:
        ran.append("work")

    caller = Caller(lock)
    with lock:
        caller.start()
        caller.post(dawdle)
    assert is_busy.wait(PATIENCE)
    with lock:
        for job in (work, work, work, is_through.set):
            caller.post(job)
    go_on.set()
    assert is_through.wait(PATIENCE)
    assert ran == ["work"]
    with lock:
        thread = caller.stop()
    assert thread is not None
    thread.join(PATIENCE)


def test_who_cannot_be_called_for_want_of_a_thread_is_told_and_may_ask_again(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat, is_told = arbiter.request_allocation(LLM, "Normal", 8 * GIB), threading.Event()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Internal, match=r"needs a thread, and the system gives none: can't start new thread\."):
            chat.on_change(lambda _: is_told.set())
        arbiter.request_allocation(IMAGE, "Normal", GIB).release()
    chat.on_change(lambda _: is_told.set())
    arbiter.request_allocation(IMAGE, "Normal", GIB)
    assert is_told.wait(PATIENCE)


def test_deadlines_do_not_wait_for_a_slow_callback() -> None:
    is_busy, go_on, is_restored = threading.Event(), threading.Event(), threading.Event()

    def dawdle(_: QualityTarget) -> None:
        is_busy.set()
        go_on.wait(PATIENCE)

    def follow(holder: Allocation) -> None:
        with suppress(ShuttingDown):
            while target := holder.wait_for_change():
                holder.acknowledge(target)
                (is_restored.set if target.memory == 10 * GIB else is_restored.clear)()

    # Grows are damped, so that the last one comes at a deadline, when nobody calls any more.
    config = replace(ArbiterConfig.for_vram_gb(12), restore_interval=0.2, pressure_threshold=1.0)
    with ThreadPoolExecutor(1) as pool, Arbiter(config) as arbiter:
        slow = arbiter.request_allocation(LLM, "Background", GIB)
        slow.on_change(dawdle)
        quick = arbiter.request_allocation(LLM, "Normal", 10 * GIB, minimum_memory=4 * GIB)
        pool.submit(follow, quick)
        for _ in range(4):
            arbiter.request_allocation(IMAGE, "Normal", 4 * GIB, timeout=PATIENCE).release()
        assert is_busy.wait(PATIENCE)
        assert is_restored.wait(PATIENCE / 2)
        go_on.set()


async def test_closing_does_not_wait_for_ever_for_a_callback_that_waits_for_the_event_loop() -> None:
    loop, is_called = asyncio.get_running_loop(), threading.Event()
    arbiter = Arbiter(ArbiterConfig.for_vram_gb(10))
    chat = arbiter.request_allocation(LLM, "Normal", 8 * GIB)
    resized = []

    async def resize(target: QualityTarget) -> None:
        resized.append(target.quality)

    def call_back(target: QualityTarget) -> None:
        is_called.set()
        asyncio.run_coroutine_threadsafe(resize(target), loop).result()

    chat.on_change(call_back)
    arbiter.request_allocation(IMAGE, "Normal", GIB)
    assert is_called.wait(PATIENCE)
    arbiter.close()
    while not resized:  # noqa: ASYNC110 - nobody tells when a callback that was left behind is through
        await asyncio.sleep(0)
    assert resized == [0.833]
