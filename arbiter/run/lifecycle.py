"""When an engine is started, drained, killed and started again. Pure: the clock is an argument, in seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from arbiter.run.command import Command

__all__ = ["Limits", "Phase", "State", "Step", "after_exit", "decide"]

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class Phase(Enum):
    """Where an engine stands."""

    DOWN = "down"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    KILLED = "killed"  # did not end within its grace
    GIVEN_UP = "given up"  # did not come up


class Step(Enum):
    """What is to be done now."""

    WAIT = "wait"
    START = "start"
    PROBE = "probe"
    DRAIN = "drain"
    KILL = "kill"


@dataclass(frozen=True)
class Limits:
    """Seconds, but for `retries`: failed starts in a row that are tried again."""

    min_interval: float = 60.0
    grace: float = 30.0
    ready_timeout: float = 1800.0
    retries: int = 5


@dataclass(frozen=True)
class State:
    """`since` is when the phase began, `started_at` when an engine was last started, `down_until` when it may be again.

    `running` is the command of the engine that lives, `wanted` that of the newest target; None before there is one.
    `ending`: a signal asked for the end, and nothing is started any more.
    """

    phase: Phase = Phase.DOWN
    since: float = 0.0
    started_at: float = 0.0
    down_until: float = 0.0
    running: Command | None = None
    wanted: Command | None = None
    failures: int = 0
    ending: bool = False

    def started(self, now: float) -> State:
        """The wanted engine has been started."""
        return replace(self, phase=Phase.STARTING, since=now, started_at=now, running=self.wanted)

    def ready(self, now: float) -> State:
        """It is up."""
        return replace(self, phase=Phase.READY, since=now, failures=0)

    def draining(self, now: float, *, ending: bool = False) -> State:
        """It was asked to end."""
        return replace(self, phase=Phase.DRAINING, since=now, ending=self.ending or ending)

    def killed(self, now: float) -> State:
        """It was killed, because it did not end or did not come up."""
        phase = Phase.KILLED if self.phase is Phase.DRAINING else Phase.GIVEN_UP
        return replace(self, phase=phase, since=now)


def decide(state: State, limits: Limits, now: float) -> tuple[Step, float | None]:
    """What to do now, and when to look again at the latest (None: when something happens)."""
    if state.phase is Phase.DRAINING:
        return _at(Step.KILL, state.since + limits.grace, now)
    if state.phase is Phase.STARTING:
        given_up_at = state.started_at + limits.ready_timeout
        return (Step.KILL, None) if now >= given_up_at else (Step.PROBE, given_up_at)
    if state.phase is Phase.DOWN:
        return (Step.WAIT, None) if state.wanted is None else _at(Step.START, state.down_until, now)
    if state.phase is Phase.READY and state.wanted != state.running:
        return _at(Step.DRAIN, state.started_at + limits.min_interval, now)
    return Step.WAIT, None


def after_exit(state: State, code: int, limits: Limits, now: float) -> tuple[State, int | None]:
    """The state once the engine has ended with `code`, and the code with which to end with it, if so.

    An engine that was ended for a new target comes back at once. One that fails before it was up is tried again, since
    engines give up when memory changes while they measure it (vllm#56830). Every other end is the container's end: the
    kubelet starts it again, through the agent's gate.
    """
    down = replace(state, phase=Phase.DOWN, since=now, running=None, down_until=now)
    if state.ending:
        return down, code
    if state.phase in (Phase.DRAINING, Phase.KILLED):
        return down, None
    may_try_again = state.phase is not Phase.READY and code != 0 and state.failures < limits.retries
    if not may_try_again:
        return down, code
    pause = min(_FIRST_PAUSE * 2**state.failures, _LONGEST_PAUSE)
    return replace(down, failures=state.failures + 1, down_until=now + pause), None


def _at(step: Step, due: float, now: float) -> tuple[Step, float | None]:
    return (step, None) if now >= due else (Step.WAIT, due)
