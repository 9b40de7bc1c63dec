"""What becomes of those who wait when the arbiter is interrupted in the midst of something (real threads)."""

import threading

import pytest

from arbiter.local.arbiter import Arbiter
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import ArbiterError, Internal, ShuttingDown, Timeout
from arbiter.units import GIB
from tests.support.patience import PATIENCE
from tests.unit.local.desk import IMAGE, LLM


class Interrupting:
    """A clock that raises what Ctrl-C raises, once, in the thread that made it."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.is_due = False

    def __call__(self) -> float:
        if self.is_due and threading.current_thread() is self.thread:
            self.is_due = False
            raise KeyboardInterrupt
        return 0.0


def test_an_interrupt_in_the_midst_leaves_nobody_waiting_for_ever() -> None:
    clock = Interrupting()
    arbiter = Arbiter(ArbiterConfig.for_vram_gb(10), clock=clock)
    chat = arbiter.request_allocation(LLM, "Normal", 8 * GIB)
    errors: list[ArbiterError] = []

    def ask() -> None:
        try:
            arbiter.request_allocation(IMAGE, "Normal", 8 * GIB)
        except ArbiterError as error:
            errors.append(error)

    waits = threading.Thread(target=ask)
    waits.start()
    while arbiter.state().waiting == 0:
        threading.Event().wait(0.001)
    clock.is_due = True
    with pytest.raises(KeyboardInterrupt):
        chat.release()
    waits.join(PATIENCE)
    assert [type(error) for error in errors] == [Internal]
    with pytest.raises(Internal, match="gives nothing out any more: KeyboardInterrupt"):
        arbiter.request_allocation(LLM, "Normal", GIB)
    assert not chat.release()
    arbiter.close()


def test_without_a_thread_to_be_had_who_asks_is_answered_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def wait_in_vain() -> None:
        with pytest.raises(Timeout):
            arbiter.request_allocation(LLM, "Normal", 8 * GIB, timeout=0.05)

    def has_its_thread() -> bool:
        return any(thread.name == "arbiter" for thread in threading.enumerate())

    with Arbiter(ArbiterConfig.for_vram_gb(10)) as arbiter:
        arbiter.request_allocation(IMAGE, "Normal", 8 * GIB)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            wait_in_vain()
        assert ("what is due waits until somebody calls the arbiter again" in caplog.text, has_its_thread()) == (
            True,
            False,
        )
        wait_in_vain()
        assert has_its_thread()


def test_asking_on_and_on_what_has_ended_keeps_nothing_of_the_answers() -> None:
    arbiter = Arbiter(ArbiterConfig.for_vram_gb(10))
    chat = arbiter.request_allocation(LLM, "Normal", GIB)
    arbiter.close()

    def depth() -> int:
        with pytest.raises(ShuttingDown) as caught:
            chat.wait_for_change()
        return len(caught.traceback)

    assert depth() == depth() == depth()
