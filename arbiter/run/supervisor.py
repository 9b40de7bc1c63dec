"""Carries `lifecycle` out: one loop that waits for signals, ended processes and new targets, and acts on each."""

from __future__ import annotations

import os
import queue
import select
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import FrameType

from arbiter.client import QualityError, QualityTarget
from arbiter.run.command import Recipe
from arbiter.run.engine import Engine, become_subreaper
from arbiter.run.errors import RunError
from arbiter.run.lifecycle import Limits, Phase, State, Step, after_exit, decide
from arbiter.run.readiness import Readiness

__all__ = ["NO_TARGET", "Orders", "Supervisor", "say"]

NO_TARGET = 1

_ENDS = (signal.SIGTERM, signal.SIGINT)
_PASSED_ON = (*_ENDS, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
_PROBE_INTERVAL = 0.2
_PIPE_BYTES = 4096


@dataclass(frozen=True)
class Orders:
    """What the command line says."""

    recipe: Recipe
    readiness: Readiness
    limits: Limits
    drain_signal: int


class Supervisor:
    """Runs one engine after another. Build and use it in the main thread, where signals arrive."""

    def __init__(self, orders: Orders, targets: Iterator[QualityTarget]) -> None:
        self._orders = orders
        self._state = State()
        self._engine: Engine | None = None
        self._newest: QualityTarget | None = None
        self._news: queue.SimpleQueue[QualityTarget | QualityError] = queue.SimpleQueue()
        self._wake_at, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._targets = targets

    def run(self) -> int:
        """Until the engine ends for good or a signal ends it; the exit code.

        Raises:
            RunError: no engine can be started for the first target.
        """
        become_subreaper()
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in (*_PASSED_ON, signal.SIGCHLD):
            signal.signal(number, _noted)
        threading.Thread(target=self._follow, daemon=True).start()
        while True:
            step, look_at = decide(self._state, self._orders.limits, time.monotonic())
            self._carry_out(step)
            code = self._take_in(self._wait(step, look_at))
            if code is not None:
                return code

    def _follow(self) -> None:
        try:
            for target in self._targets:
                self._tell(target)
        except QualityError as error:
            self._tell(error)

    def _tell(self, news: QualityTarget | QualityError) -> None:
        self._news.put(news)
        os.write(self._wake, b"\0")

    def _wait(self, step: Step, look_at: float | None) -> list[int]:
        """The signals that have come, after something happened or it is time to look again."""
        patience = None if look_at is None else max(0.0, look_at - time.monotonic())
        if step is Step.PROBE:
            patience = _PROBE_INTERVAL
        elif step is not Step.WAIT:
            patience = 0.0
        select.select([self._wake_at], [], [], patience)
        try:
            return list(os.read(self._wake_at, _PIPE_BYTES))
        except BlockingIOError:
            return []

    def _take_in(self, signals: list[int]) -> int | None:
        while not self._news.empty():
            news = self._news.get()
            if isinstance(news, QualityError):
                say(str(news))
                return NO_TARGET
            self._take_target(news)
        for number in signals:
            if number in _PASSED_ON:
                code = self._pass_on(number)
                if code is not None:
                    return code
        return self._take_exit()

    def _take_target(self, target: QualityTarget) -> None:
        try:
            wanted = self._orders.recipe.at(target)
        except RunError as error:
            if self._newest is None:
                raise
            say(f"revision {target.revision} is not followed: {error}.")
            return
        self._newest = target
        self._state = replace(self._state, wanted=wanted)
        if self._state.phase is Phase.READY and wanted == self._state.running:
            self._acknowledge(target)

    def _pass_on(self, number: int) -> int | None:
        if self._engine is not None:
            self._engine.signal(number)
        if number not in _ENDS:
            return None
        if self._engine is None:
            return 128 + number
        self._state = self._state.draining(time.monotonic(), ending=True)
        return None

    def _take_exit(self) -> int | None:
        code = None if self._engine is None else self._engine.reap()
        if self._engine is None or code is None:
            return None
        self._engine.sweep()
        self._engine = None
        now = time.monotonic()
        before = self._state.phase
        self._state, ends_with = after_exit(self._state, code, self._orders.limits, now)
        if ends_with is None:
            pause = self._state.down_until - now
            say(f"engine ended while {before.value}, with code {code}; started again in {pause:.0f} s")
        return ends_with

    def _carry_out(self, step: Step) -> None:
        now = time.monotonic()
        if step is Step.START:
            self._start(now)
        elif self._engine is None:
            return
        elif step is Step.PROBE:
            lived = now - self._state.started_at
            if self._orders.readiness.is_up(lived=lived, has_said=self._engine.said.is_set()):
                self._note_ready(now)
        elif step is Step.DRAIN:
            say("a new target: the engine is asked to end")
            self._engine.signal(self._orders.drain_signal)
            self._state = self._state.draining(now)
        elif step is Step.KILL:
            say(f"engine killed: {self._state.phase.value} for too long")
            self._engine.kill()
            self._state = self._state.killed(now)

    def _start(self, now: float) -> None:
        command, target = self._state.wanted, self._newest
        if command is None or target is None:
            return
        say(f"quality {target.quality:.3f}, {target.vram_bytes >> 20}Mi: {shlex.join(command.arguments)}")
        try:
            self._engine = Engine(command, line=self._orders.readiness.log)
        except OSError as error:
            raise RunError(f"{command.arguments[0]} cannot be run: {error.strerror}") from error
        self._state = self._state.started(now)

    def _note_ready(self, now: float) -> None:
        self._state = self._state.ready(now)
        say(f"engine is up after {now - self._state.started_at:.1f} s")
        # A target that came meanwhile and means another command is followed by another engine.
        if self._newest is not None and self._state.wanted == self._state.running:
            self._acknowledge(self._newest)

    def _acknowledge(self, target: QualityTarget) -> None:
        """In a thread of its own, since it repeats until the agent has it or a newer target came."""
        threading.Thread(target=target.acknowledge, daemon=True).start()


def say(sentence: str) -> None:
    """One line on stderr."""
    print(f"arbiter-run: {sentence}", file=sys.stderr, flush=True)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The wake-up descriptor has its number."""
