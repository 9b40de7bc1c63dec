"""When an engine is started, drained, killed and started again, on a clock of our own."""

from dataclasses import replace

import pytest

from arbiter.run.command import Command
from arbiter.run.lifecycle import Limits, Phase, State, Step, after_exit, decide

OLD, NEW = Command(("engine", "old"), ()), Command(("engine", "new"), ())
LIMITS = Limits(min_interval=60, grace=30, ready_timeout=600, retries=2)
START = State(wanted=OLD).started(100)
UP = START.ready(130)


@pytest.mark.parametrize(
    ("state", "now", "decision"),
    [
        pytest.param(State(), 0, (Step.WAIT, None), id="without a target nothing is started"),
        pytest.param(State(wanted=OLD), 0, (Step.START, None), id="the first target starts the engine"),
        pytest.param(START, 101, (Step.PROBE, 700), id="an engine that starts is looked at"),
        pytest.param(
            replace(START, wanted=NEW), 650, (Step.PROBE, 700), id="a new target lets it come up before it ends it"
        ),
        pytest.param(START, 700, (Step.KILL, None), id="one that does not come up is killed"),
        pytest.param(UP, 10_000, (Step.WAIT, None), id="a target that is followed asks for nothing"),
        pytest.param(replace(UP, wanted=NEW), 131, (Step.WAIT, 160), id="restarts keep their least interval"),
        pytest.param(replace(UP, wanted=NEW), 160, (Step.DRAIN, None), id="after it the engine is asked to end"),
        pytest.param(replace(UP, wanted=NEW).draining(160), 189, (Step.WAIT, 190), id="it has its grace"),
        pytest.param(replace(UP, wanted=NEW).draining(160), 190, (Step.KILL, None), id="after which it is killed"),
        pytest.param(UP.draining(160).killed(190), 500, (Step.WAIT, None), id="a killed engine is waited for"),
        pytest.param(START.killed(700), 701, (Step.WAIT, None), id="one that was given up is waited for"),
    ],
)
def test_what_is_done_now(state: State, now: float, decision: tuple[Step, float | None]) -> None:
    assert decide(state, LIMITS, now) == decision


@pytest.mark.parametrize(
    ("state", "code", "ends_with", "starts_at"),
    [
        pytest.param(replace(UP, wanted=NEW).draining(160), 0, None, 200, id="replaced: started at once"),
        pytest.param(UP.draining(160).killed(190), 137, None, 200, id="replaced with force: the same"),
        pytest.param(UP, 0, 0, 200, id="a job that is complete is complete"),
        pytest.param(UP, 1, 1, 200, id="a crash of an engine that was up is the container's"),
        pytest.param(START, 0, 0, 200, id="a job may be complete before it counts as up"),
        pytest.param(START, 1, None, 201, id="a failed start is tried again"),
        pytest.param(replace(START, failures=1), 1, None, 202, id="later each time"),
        pytest.param(replace(START, failures=2), 1, 1, 200, id="and not for ever"),
        pytest.param(START.killed(700), 137, None, 201, id="one that was given up counts as failed"),
        pytest.param(UP.draining(160, ending=True), 143, 143, 200, id="the end that was asked for"),
        pytest.param(UP.draining(150).draining(160, ending=True), 0, 0, 200, id="also in the middle of a change"),
    ],
)
def test_what_an_end_means(state: State, code: int, ends_with: int | None, starts_at: float) -> None:
    after, end = after_exit(state, code, LIMITS, 200)

    assert end == ends_with
    assert (after.phase, after.running, after.down_until) == (Phase.DOWN, None, starts_at)


def test_an_engine_that_came_up_has_all_its_tries_again() -> None:
    assert replace(START, failures=2).ready(130).failures == 0
