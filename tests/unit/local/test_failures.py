"""What becomes of those who wait when the arbiter is interrupted in the midst of something (real threads)."""

import threading

import pytest

from arbiter.local.arbiter import Arbiter
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import ArbiterError, Internal
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
