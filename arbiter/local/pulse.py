"""Wakes threads and tasks that wait for the same thing. Imports the core only."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from arbiter.arguments import LONGEST_WAIT


class Pulse:
    """Call `fire` and `wait` with `lock` held; `wait` gives it up while it waits. `wait_in_loop` takes it itself."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._condition = threading.Condition(lock)
        self._futures: set[asyncio.Future[None]] = set()

    def fire(self) -> None:
        """Wake everybody who waits now."""
        self._condition.notify_all()
        while self._futures:
            future = self._futures.pop()
            with suppress(RuntimeError):  # its loop is closed, so nobody waits there any more
                future.get_loop().call_soon_threadsafe(_resolve, future)

    def wait(self, timeout: float | None) -> None:
        """Until the next `fire`, at most `timeout` seconds; a long one may end before: look whether to wait again."""
        self._condition.wait(timeout if timeout is None else min(timeout, LONGEST_WAIT))

    async def wait_in_loop(self, seconds: float | None, *, unless: Callable[[], bool]) -> None:
        """The same for a task; not at all where `unless`, asked with the lock held, says so."""
        with self._lock:
            if unless():
                return
            future = asyncio.get_running_loop().create_future()
            self._futures.add(future)
        try:
            await asyncio.wait([future], timeout=seconds)
        finally:
            with self._lock:
                self._futures.discard(future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
