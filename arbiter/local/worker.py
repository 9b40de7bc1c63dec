"""The threads of an Arbiter: one for what has to happen at some time though nobody calls, one for callbacks.

Imports the core only. Two, because a callback may take as long as it likes, and no deadline waits for it.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from arbiter.arguments import LONGEST_WAIT
from arbiter.local.errors import Internal

_log = logging.getLogger(__name__)

Job = Callable[[], None]


class _Worker(ABC):
    """A thread that runs from `start` until `stop`, or as long as the process."""

    def __init__(self, lock: threading.Lock, *, name: str) -> None:
        self._lock = lock
        self._name = name
        self._condition = threading.Condition(lock)
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Begin, with the lock held, unless it has begun or is over.

        Raises:
            Internal: the system has no thread to give.
        """
        if self._is_stopped or self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise Internal(f"the arbiter needs a thread, and the system gives none: {error}.") from error
        self._thread = thread

    def stop(self) -> threading.Thread | None:
        """Finish, with the lock held; the thread to join, without the lock."""
        self._is_stopped = True
        self._condition.notify_all()
        return None if self._thread is threading.current_thread() else self._thread

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
            self._condition.notify_all()
        if deadline is not None:
            try:
                self.start()
            except Internal:
                _log.warning("what is due waits until somebody calls the arbiter again", exc_info=True)

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
        self._jobs: dict[Job, None] = {}

    def post(self, job: Job) -> None:
        """With the lock held: run it soon, after those posted before; once, however often it was posted until then."""
        self._jobs[job] = None
        self._condition.notify_all()

    def _step(self) -> None:
        if not self._jobs:
            self._condition.wait()
            return
        job = next(iter(self._jobs))
        del self._jobs[job]
        self._lock.release()
        try:
            job()
        finally:
            self._lock.acquire()
