"""The threads of an Arbiter: one for what has to happen at some time though nobody calls, one for callbacks.

Imports the core only. Two, because a callback may take as long as it likes, and no deadline waits for it.
"""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from arbiter.arguments import LONGEST_WAIT

Job = Callable[[], None]


class _Worker(ABC):
    """A thread that starts when there is first something to do, and ends with `stop` or with the process."""

    def __init__(self, lock: threading.Lock, *, name: str) -> None:
        self._lock = lock
        self._name = name
        self._condition = threading.Condition(lock)
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def stop(self) -> threading.Thread | None:
        """Finish, with the lock held; the thread to join, without the lock."""
        self._is_stopped = True
        self._condition.notify_all()
        return None if self._thread is threading.current_thread() else self._thread

    def _notify(self) -> None:
        if self._is_stopped:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._condition.notify_all()

    def _run(self) -> None:
        with self._lock:
            while not self._is_stopped:
                self._step()

    @abstractmethod
    def _step(self) -> None:
        """With the lock held: do what there is to do, or wait for it."""


class Alarm(_Worker):
    """Calls `tick`, which raises nothing, with the lock held when a deadline (seconds on `clock`) has come."""

    def __init__(self, lock: threading.Lock, *, clock: Callable[[], float], tick: Job) -> None:
        super().__init__(lock, name="arbiter")
        self._clock = clock
        self._tick = tick
        self._deadline: float | None = None

    def wake_at(self, deadline: float | None) -> None:
        """With the lock held: tick at that time, and at no other that was said before."""
        is_earlier = deadline is not None and (self._deadline is None or deadline < self._deadline)
        self._deadline = deadline
        if is_earlier:
            self._notify()

    def _step(self) -> None:
        left = None if self._deadline is None else self._deadline - self._clock()
        if left is None or left > 0:
            self._condition.wait(left if left is None else min(left, LONGEST_WAIT))
        else:
            self._tick()


class Caller(_Worker):
    """Runs jobs, which raise nothing, one after another and without the lock."""

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__(lock, name="arbiter-callbacks")
        self._jobs: deque[Job] = deque()

    def post(self, job: Job) -> None:
        """With the lock held: run it soon, after those posted before."""
        self._jobs.append(job)
        self._notify()

    def _step(self) -> None:
        if not self._jobs:
            self._condition.wait()
            return
        job = self._jobs.popleft()
        self._lock.release()
        try:
            job()
        finally:
            self._lock.acquire()
