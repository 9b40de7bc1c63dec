"""How holders follow their targets: by call, by waiting, by callback (real threads)."""

import logging
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from arbiter.local.arbiter import Arbiter
from arbiter.local.claim import QualityTarget
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import Internal, Preempted, ShuttingDown, Timeout
from arbiter.units import GIB
from tests.support.patience import PATIENCE
from tests.unit.local.desk import IMAGE, LLM


@pytest.fixture
def arbiter() -> Iterator[Arbiter]:
    with Arbiter(ArbiterConfig.for_vram_gb(10)) as arbiter:
        yield arbiter


def in_the_background(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def look_for_ever(arbiter: Arbiter) -> None:
    while True:
        arbiter.state()


class Listener:
    """Keeps what a callback is told; `news` is set by each call."""

    def __init__(self) -> None:
        self.told: list[QualityTarget] = []
        self.news = threading.Event()

    def __call__(self, target: QualityTarget) -> None:
        self.told.append(target)
        self.news.set()


def test_a_target_is_live(arbiter: Arbiter) -> None:
    chat = arbiter.request_allocation(LLM, "Normal", 8 * GIB)
    posters = arbiter.request_allocation(IMAGE, "Normal", GIB)
    assert chat.quality_target == 0.833
    posters.release()
    assert chat.quality_target == 1.0


def test_waiting_ends_with_the_next_change(arbiter: Arbiter) -> None:
    chat = arbiter.request_allocation(LLM, "Normal", 8 * GIB)
    asks = in_the_background(lambda: arbiter.request_allocation(IMAGE, "Normal", GIB))
    target = chat.wait_for_change(PATIENCE)
    asks.join()
    assert target is not None
    assert (target.quality, target.memory, target.target) == (0.833, 8 * GIB, 0.833)


def test_a_change_that_came_before_the_waiting_is_not_missed(arbiter: Arbiter) -> None:
    chat = arbiter.request_allocation(LLM, "Normal", 8 * GIB)
    arbiter.request_allocation(IMAGE, "Normal", GIB)
    assert chat.wait_for_change(PATIENCE) == chat.target


def test_what_was_seen_is_no_change(arbiter: Arbiter) -> None:
    chat = arbiter.request_allocation(LLM, "Normal", 8 * GIB)
    arbiter.request_allocation(IMAGE, "Normal", GIB)
    assert chat.quality_target < 1
    assert chat.wait_for_change(0.01) is None


def test_callbacks_are_called_after_each_change_until_they_are_taken_off(arbiter: Arbiter) -> None:
    chat, listener = arbiter.request_allocation(LLM, "Normal", 8 * GIB), Listener()
    stop = chat.on_change(listener)
    posters = arbiter.request_allocation(IMAGE, "Normal", GIB)
    assert listener.news.wait(PATIENCE)
    assert [target.quality for target in listener.told] == [0.833]
    stop()
    posters.release()
    assert chat.wait_for_change(PATIENCE) is not None
    assert len(listener.told) == 1


def test_a_callback_hears_of_a_change_that_came_before_it(arbiter: Arbiter) -> None:
    chat, listener = arbiter.request_allocation(LLM, "Normal", 8 * GIB), Listener()
    arbiter.request_allocation(IMAGE, "Normal", GIB)
    chat.on_change(listener)
    assert listener.news.wait(PATIENCE)
    assert listener.told == [chat.target]


def test_a_callback_may_call_the_arbiter(arbiter: Arbiter) -> None:
    chat = arbiter.request_allocation(LLM, "High", 8 * GIB, minimum_memory=4 * GIB)
    chat.on_change(lambda _: chat.acknowledge())
    with arbiter.request_allocation(IMAGE, "Normal", 4 * GIB, timeout=PATIENCE) as posters:
        assert posters.memory == 4 * GIB


def test_a_callback_that_fails_is_logged_and_stops_nobody(arbiter: Arbiter, caplog: pytest.LogCaptureFixture) -> None:
    chat, listener = arbiter.request_allocation(LLM, "Normal", 8 * GIB), Listener()
    chat.on_change(lambda _: 1 / 0)
    posters = arbiter.request_allocation(IMAGE, "Normal", GIB)
    posters.on_change(listener)
    with caplog.at_level(logging.ERROR):
        chat.release()
        assert listener.news.wait(PATIENCE)
    assert "a callback of an allocation has failed" in caplog.text


def test_a_busy_callback_gets_the_newest_target_next(arbiter: Arbiter) -> None:
    chat, listener = arbiter.request_allocation(LLM, "Normal", 8 * GIB), Listener()
    busy, go_on = threading.Event(), threading.Event()

    def hold(_: QualityTarget) -> None:
        busy.set()
        assert go_on.wait(PATIENCE)

    chat.on_change(hold)
    chat.on_change(listener)
    first = arbiter.request_allocation(IMAGE, "Normal", GIB)
    assert busy.wait(PATIENCE)
    first.release()
    second = arbiter.request_allocation(IMAGE, "Normal", 2**29)
    listener.news.clear()
    go_on.set()
    while len(listener.told) < 2:
        assert listener.news.wait(PATIENCE)
        listener.news.clear()
    assert [target.quality for target in listener.told] == [0.833, 1.0]
    assert second.quality_target == 1.0


def test_who_has_to_leave_hears_it_in_every_way(arbiter: Arbiter) -> None:
    batch, listener = arbiter.request_allocation(LLM, "Background", 8 * GIB), Listener()
    batch.on_change(listener)
    urgent = in_the_background(lambda: arbiter.request_allocation(IMAGE, "High", 6 * GIB))
    assert listener.news.wait(PATIENCE)
    assert (batch.preempted, listener.told[-1].preempted_by) == (True, "image-2")
    with pytest.raises(Preempted, match="llm-1 has to leave for image-2, whose priority is at least two levels higher"):
        batch.wait_for_change(PATIENCE)
    batch.release()
    urgent.join(PATIENCE)
    assert arbiter.state().active_diffusion == 1


def test_waiting_ends_when_the_allocation_is_released(arbiter: Arbiter) -> None:
    chat = arbiter.request_allocation(LLM, "Normal", GIB)
    errors: list[ShuttingDown] = []

    def wait() -> None:
        try:
            chat.wait_for_change(PATIENCE)
        except ShuttingDown as error:
            errors.append(error)

    waits = in_the_background(wait)
    chat.release()
    waits.join(PATIENCE)
    assert [str(error) for error in errors] == ["llm-1 was released."]


def test_closing_wakes_everybody_and_ends_the_thread() -> None:
    before = threading.active_count()
    arbiter = Arbiter(ArbiterConfig.for_vram_gb(10))
    chat = arbiter.request_allocation(LLM, "Normal", 8 * GIB)
    chat.on_change(Listener())
    errors: list[Exception] = []

    def ask() -> None:
        try:
            arbiter.request_allocation(IMAGE, "Normal", 8 * GIB, timeout=PATIENCE)
        except ShuttingDown as error:
            errors.append(error)

    waits = in_the_background(ask)
    while arbiter.state().waiting == 0:
        threading.Event().wait(0.001)
    arbiter.close()
    arbiter.close()
    waits.join(PATIENCE)
    assert [str(error) for error in errors] == ["this arbiter was closed while image-2 waited."]
    with pytest.raises(ShuttingDown, match="this arbiter is closed"):
        arbiter.request_allocation(LLM, "Normal", GIB)
    with pytest.raises(ShuttingDown, match="the arbiter was closed"):
        chat.wait_for_change(PATIENCE)
    assert chat.release()
    assert threading.active_count() == before


def test_no_thread_is_started_before_it_is_needed() -> None:
    before = threading.active_count()
    with Arbiter() as arbiter, arbiter.request_allocation(LLM, "Normal", GIB):
        assert threading.active_count() == before


def test_a_thread_that_waits_is_told_in_time(arbiter: Arbiter) -> None:
    arbiter.request_allocation(LLM, "Normal", 8 * GIB)
    with pytest.raises(Timeout) as caught:
        arbiter.request_allocation(LLM, "Normal", 8 * GIB, timeout=0.05)
    assert caught.value.duration == 0.05
    assert isinstance(caught.value, TimeoutError)


def test_what_was_lent_comes_back_in_time_without_anybody_asking() -> None:
    config = replace(ArbiterConfig.for_vram_gb(12), restore_interval=0.05)
    with Arbiter(config) as arbiter:
        chat, listener = arbiter.request_allocation(LLM, "High", 10 * GIB, minimum_memory=4 * GIB), Listener()
        for _ in range(4):
            chat.on_change(lambda _: chat.acknowledge())
            arbiter.request_allocation(IMAGE, "Normal", 6 * GIB, timeout=PATIENCE).release()
        chat.on_change(listener)
        while chat.memory < 10 * GIB:
            assert listener.news.wait(PATIENCE)
            listener.news.clear()


def test_a_defect_is_told_to_everybody() -> None:
    times = iter([0.0] * 40)
    arbiter = Arbiter(ArbiterConfig.for_vram_gb(10), clock=lambda: next(times))
    chat = arbiter.request_allocation(LLM, "Normal", GIB)
    with pytest.raises(Internal, match="the arbiter has failed and gives nothing out any more: StopIteration"):
        look_for_ever(arbiter)
    with pytest.raises(Internal):
        chat.wait_for_change(PATIENCE)


def test_asking_whether_to_pause_or_to_leave_hides_no_change(arbiter: Arbiter) -> None:
    chat = arbiter.request_allocation(LLM, "High", 8 * GIB, minimum_memory=4 * GIB)
    asks = in_the_background(lambda: arbiter.request_allocation(IMAGE, "Normal", 4 * GIB, timeout=PATIENCE))
    while arbiter.state().waiting == 0:
        threading.Event().wait(0.001)
    assert (chat.paused, chat.preempted) == (False, False)
    chat.acknowledge()
    assert arbiter.state().waiting == 1, "bytes are confirmed that nobody was told to free"
    target = chat.wait_for_change(PATIENCE)
    assert target is not None
    chat.acknowledge(target)
    asks.join(PATIENCE)
    assert arbiter.state().waiting == 0


def test_only_a_target_of_its_own_can_be_acknowledged(arbiter: Arbiter) -> None:
    chat = arbiter.request_allocation(LLM, "Normal", GIB)
    posters = arbiter.request_allocation(IMAGE, "Normal", GIB)
    with pytest.raises(
        ValueError, match=r"^the target is one of image-2; acknowledge llm-1 with a target of its own\.$"
    ):
        chat.acknowledge(posters.target)
    size: Any = chat.memory
    with pytest.raises(
        TypeError, match=r"target should be of class QualityTarget, such as allocation.target, not 1073"
    ):
        chat.acknowledge(size)
    letter: Any = "a"
    with pytest.raises(ValueError, match="memory should be a whole number of bytes"):
        replace(chat.target, memory=letter)
    with pytest.raises(ValueError, match="revision should be a whole number of 0 or more, not 'a'"):
        replace(chat.target, revision=letter)
    assert chat.acknowledge(chat.target)


@pytest.mark.parametrize("patience", [math.inf, 1e12])
def test_waiting_for_ever_ends_with_a_change_too(arbiter: Arbiter, patience: float) -> None:
    chat = arbiter.request_allocation(LLM, "Normal", 8 * GIB)
    asks = in_the_background(lambda: arbiter.request_allocation(IMAGE, "Normal", 4 * GIB, timeout=patience))
    while arbiter.state().waiting == 0:
        threading.Event().wait(0.001)
    leaves = in_the_background(chat.release)
    asks.join(PATIENCE)
    leaves.join(PATIENCE)
    posters = arbiter.request_allocation(LLM, "Normal", GIB)
    asks = in_the_background(lambda: arbiter.request_allocation(IMAGE, "Normal", 5 * GIB))
    assert posters.wait_for_change(patience) is not None
    asks.join(PATIENCE)


def test_deadlines_are_kept_beside_somebody_who_waits_for_ever(arbiter: Arbiter) -> None:
    chat = arbiter.request_allocation(LLM, "Normal", 8 * GIB)
    asks = in_the_background(lambda: arbiter.request_allocation(IMAGE, "Normal", 8 * GIB, timeout=math.inf))
    while arbiter.state().waiting == 0:
        threading.Event().wait(0.001)
    with pytest.raises(Timeout):
        arbiter.request_allocation(LLM, "Normal", 8 * GIB, timeout=0.05)
    chat.release()
    asks.join(PATIENCE)
    assert arbiter.state().active_diffusion == 1
