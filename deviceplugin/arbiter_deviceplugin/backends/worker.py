"""One thread for a driver's blocking calls, so that a driver that hangs stalls neither the loop nor our exit.

Own code rather than `concurrent.futures`: its threads are joined at exit, which a hung driver call would prevent.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from arbiter_deviceplugin.backends import BackendError

T = TypeVar("T")

_Job = Callable[[], None]


class Worker:
    """Runs calls one after another in a daemon thread; a call that exceeds `limit` (s) fails, and so does each that
    is made before it returns."""

    def __init__(self, name: str, *, limit: float) -> None:
        self._name = name
        self._limit = limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._stuck = False
        threading.Thread(target=self._work, name=name, daemon=True).start()

    @property
    def is_stuck(self) -> bool:
        """Whether a call has not returned in time, and still has not."""
        return self._stuck

    def stop(self) -> None:
        """Ends the thread once its calls have returned."""
        self._jobs.put(None)

    async def run(self, call: Callable[[], T]) -> T:
        """The call's result.

        Raises:
            BackendError: it did not return in time, or an earlier one still has not.
        """
        if self._stuck:
            raise BackendError(f"{self._name} has not answered an earlier call yet.")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def settle(value: T | None, error: Exception | None) -> None:
            self._stuck = False
            if result.done():
                return
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(value)  # type: ignore[arg-type] # None only where T is, or beside an error

        def job() -> None:
            value, error = None, None
            try:
                value = call()
            except Exception as raised:  # handed to whoever asked, of whatever kind it is
                error = raised
            with suppress(RuntimeError):  # the loop may have been closed while the call hung
                loop.call_soon_threadsafe(settle, value, error)

        self._jobs.put(job)
        try:
            # Not a timeout around it: one that comes due beside the answer would call the thread stuck for ever.
            await asyncio.wait((result,), timeout=self._limit)
            if not result.done():
                self._stuck = True
                raise BackendError(f"{self._name} did not answer within {self._limit:g} s.")
            return result.result()
        finally:
            result.cancel()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
