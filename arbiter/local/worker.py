"""The one thread of an Arbiter: what has to happen at some time though nobody calls, and callbacks.

Imports the standard library only.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

_log = logging.getLogger(__name__)

Job = Callable[[], None]


class Worker:
    """Starts when there is first something to do; ends with `stop`, or with the process.

    `tick` is called with the lock held when the time of `deadline` (seconds on `clock`) has come, jobs without the
    lock.
    """

    def __init__(self, lock: threading.Lock, *, clock: Callable[[], float], tick: Callable[[], None]) -> None:
        self._lock = lock
        self._condition = threading.Condition(lock)
        self._clock = clock
        self._tick = tick
        self._jobs: deque[Job] = deque()
        self._deadline: float | None = None
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    # With the lock held

    def wake_at(self, deadline: float | None) -> None:
        """Tick at that time, and at no other that was said before."""
        is_earlier = deadline is not None and (self._deadline is None or deadline < self._deadline)
        self._deadline = deadline
        if is_earlier:
            self._notify()

    def post(self, job: Job) -> None:
        """Run it soon, after those posted before."""
        self._jobs.append(job)
        self._notify()

    def stop(self) -> threading.Thread | None:
        """Finish; the thread to join, without the lock."""
        self._is_stopped = True
        self._condition.notify_all()
        return None if self._thread is threading.current_thread() else self._thread

    def _notify(self) -> None:
        if self._is_stopped:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="arbiter", daemon=True)
            self._thread.start()
        self._condition.notify_all()

    # On the thread

    def _run(self) -> None:
        with self._lock:
            while not self._is_stopped:
                self._step()

    def _step(self) -> None:
        if self._jobs:
            self._do(self._jobs.popleft())
            return
        left = None if self._deadline is None else self._deadline - self._clock()
        if left is None or left > 0:
            self._condition.wait(left)
        else:
            self._tick()

    def _do(self, job: Job) -> None:
        self._lock.release()
        try:
            job()
        except Exception:
            _log.exception("a callback of an allocation has failed")
        finally:
            self._lock.acquire()
