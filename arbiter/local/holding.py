"""What an allocation's holder was told and what it has taken notice of. Imports the core only."""

import logging
import threading
import time
from collections.abc import Callable

from arbiter.local.claim import QualityTarget
from arbiter.local.errors import ArbiterError, Preempted
from arbiter.local.pulse import Pulse

_log = logging.getLogger(__name__)

Callback = Callable[[QualityTarget], object]


class Holding:
    """`target` is the newest, `seen` the last that the holder got in whatever way: a change is what differs from it.

    `target`, `seen` and `over` may be read without the lock, each by itself.
    """

    def __init__(self, lock: threading.Lock, target: QualityTarget, *, name: str) -> None:
        self._lock = lock
        self._name = name
        self._pulse = Pulse(lock)
        self._callbacks: list[Callback] = []
        self.target = self.seen = self._delivered = target
        self.over: ArbiterError | None = None

    # With the lock held

    def update(self, target: QualityTarget) -> bool:
        """Take over what is told now; whether there are callbacks to call for it."""
        is_news = target.news != self.target.news
        self.target = target
        if is_news:
            self._pulse.fire()
        return is_news and bool(self._callbacks)

    def subscribe(self, callback: Callback) -> bool:
        """From now on call it with each change; whether there is one that nobody has seen yet."""
        if not self._callbacks:
            self._delivered = self.seen
        self._callbacks.append(callback)
        return self.target.news != self._delivered.news

    def finish(self, error: ArbiterError) -> None:
        """Nothing changes any more, and this is why."""
        self.over = error
        self._pulse.fire()

    # Without it

    def look(self) -> QualityTarget:
        """The newest target, which has been seen from now on."""
        with self._lock:
            self.seen = self.target
            return self.target

    def unsubscribe(self, callback: Callback) -> None:
        """Call it no more."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def deliver(self) -> None:
        """Call the callbacks with the newest target, unless they have had it: what came and went is passed over."""
        with self._lock:
            target, callbacks = self.target, tuple(self._callbacks)
            if target.news == self._delivered.news:
                return
            self._delivered = self.seen = target
        for callback in callbacks:
            _call(callback, target)

    def wait(self, timeout: float | None) -> QualityTarget | None:
        """The newest target as soon as it is another than the one seen last; None where none comes in time."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while not self._has_news(self.seen):
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._pulse.wait(left)
            self.seen = self.target
            return self.target

    async def follow(self, after: QualityTarget) -> QualityTarget:
        """The newest target as soon as it is another than `after`, for a task."""
        await self._pulse.wait_in_loop(None, unless=lambda: self._has_news(after))
        with self._lock:
            self._has_news(after)
            self.seen = self.target
            return self.target

    def _has_news(self, after: QualityTarget) -> bool:
        if self.over is not None:
            raise self.over.with_traceback(None)  # many may ask, often: what each adds to it would stay for ever
        if self.target.preempted_by is not None:
            raise Preempted(victim=self._name, by=self.target.preempted_by)
        return self.target.news != after.news


def _call(callback: Callback, target: QualityTarget) -> None:
    try:
        callback(target)
    except BaseException:  # SystemExit too: it would end the thread, and with it the callbacks of everybody
        _log.exception("a callback of an allocation has failed")
