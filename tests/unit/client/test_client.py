import ast
import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import arbiter.client
from arbiter.client import (
    AgentUnreachableError,
    NoTargetError,
    NotUnderArbiterError,
    QualityTarget,
    watch_quality,
)

if TYPE_CHECKING:
    from tests.support.agent import FakeAgent, Misbehaviour


def answers(status: int, text: str) -> "Misbehaviour":
    return lambda request: request.answer(status, text)


def drops(request: object) -> None:
    """The connection ends without an answer, as when the agent is killed."""


def target(directory: Path, revision: int) -> QualityTarget:
    return QualityTarget(
        quality=0.904,
        target=0.904,
        minimum=0.4,
        vram_bytes=9256 << 20,
        gpu_fraction=0.753,
        gpus=("GPU-0",),
        pressure="High",
        mode="Adaptive",
        revision=revision,
        reason="team-b/posters joined gpu-1/0",
        directory=directory,
    )


def in_the_background(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def test_the_current_target_comes_first_and_comes_from_the_file(agent: "FakeAgent") -> None:
    agent.publish(3)
    assert next(watch_quality(agent.directory)) == target(agent.directory, 3)
    assert agent.requests == []


def test_arbiter_dir_names_the_directory(agent: "FakeAgent", monkeypatch: pytest.MonkeyPatch) -> None:
    agent.publish(1)
    monkeypatch.setenv("ARBITER_DIR", str(agent.directory))
    assert next(watch_quality()).directory == agent.directory


def test_a_newer_target_arrives_through_the_open_question(running_agent: "FakeAgent") -> None:
    watch = watch_quality(running_agent.directory)
    next(watch)

    def publish_while_it_waits() -> None:
        assert running_agent.waiting.wait(10)
        running_agent.publish(2)

    publisher = in_the_background(publish_while_it_waits)
    assert next(watch) == target(running_agent.directory, 2)
    publisher.join()
    assert running_agent.requests == ["GET /v1/quality?after=1&timeout=10s"]


def test_an_answer_without_news_is_followed_by_the_next_question(running_agent: "FakeAgent") -> None:
    watch = watch_quality(running_agent.directory, poll_timeout=0.02)
    next(watch)

    def publish_after_three_questions() -> None:
        while len(running_agent.requests) < 3:
            assert running_agent.waiting.wait(10)
        running_agent.publish(2)

    publisher = in_the_background(publish_after_three_questions)
    assert next(watch).revision == 2
    publisher.join()


def test_targets_that_came_and_went_meanwhile_are_passed_over(running_agent: "FakeAgent") -> None:
    watch = watch_quality(running_agent.directory)
    next(watch)
    for revision in (2, 3, 4):
        running_agent.publish(revision)
    assert next(watch).revision == 4


def test_the_file_is_enough_while_the_agent_is_down(agent: "FakeAgent") -> None:
    agent.publish(1)
    watch = watch_quality(agent.directory)
    next(watch)
    agent.publish(2)
    assert next(watch) == target(agent.directory, 2)


def test_a_restart_of_the_agent_in_the_middle_of_a_question_loses_nothing(running_agent: "FakeAgent") -> None:
    watch = watch_quality(running_agent.directory)
    next(watch)

    def die_leave_a_target_and_come_back() -> None:
        assert running_agent.waiting.wait(10)
        running_agent.stop()
        running_agent.publish(2)
        running_agent.start()

    restart = in_the_background(die_leave_a_target_and_come_back)
    assert next(watch) == target(running_agent.directory, 2)
    restart.join()
    running_agent.publish(3)
    assert next(watch) == target(running_agent.directory, 3)


def test_the_socket_is_used_again_after_a_restart(running_agent: "FakeAgent") -> None:
    watch = watch_quality(running_agent.directory)
    next(watch)
    running_agent.stop()
    running_agent.publish(2)
    assert next(watch).revision == 2
    assert running_agent.requests == []
    running_agent.start()
    # The file keeps revision 2: only the socket can tell of 3.
    running_agent.publish(3)
    running_agent.write(
        (running_agent.directory / "quality.json").read_text().replace('"revision": 3', '"revision": 2')
    )
    assert next(watch) == target(running_agent.directory, 3)
    assert running_agent.requests == ["GET /v1/quality?after=2&timeout=10s"]


@pytest.mark.parametrize(
    "misbehaviour",
    [
        pytest.param(drops, id="drops the connection"),
        pytest.param(answers(500, "disk full"), id="fails inside"),
        pytest.param(answers(200, "<html>"), id="answers no JSON"),
        pytest.param(answers(200, "[]"), id="answers a list"),
        pytest.param(answers(200, '{"kind": "QualityTarget", "revision": 9}'), id="answers half a target"),
        pytest.param(answers(200, '{"kind": "Status", "revision": 9}'), id="answers something else"),
        pytest.param(answers(200, '{"kind": "QualityTarget", "quality": "high"}'), id="answers words for numbers"),
        pytest.param(lambda request: request.wfile.write(b"\x00\xff\n\n"), id="answers no HTTP"),
    ],
)
def test_an_agent_that_misbehaves_is_asked_again_and_never_believed(
    running_agent: "FakeAgent", misbehaviour: "Misbehaviour"
) -> None:
    watch = watch_quality(running_agent.directory)
    next(watch)
    running_agent.misbehaviours.extend([misbehaviour, misbehaviour])

    def publish_at_the_third_question() -> None:
        assert running_agent.waiting.wait(10)
        running_agent.publish(2)

    publisher = in_the_background(publish_at_the_third_question)
    assert next(watch) == target(running_agent.directory, 2)
    publisher.join()
    assert running_agent.requests == ["GET /v1/quality?after=1&timeout=10s"] * 3


def test_an_agent_that_hangs_holds_a_newer_file_up_only_until_the_question_ends(
    running_agent: "FakeAgent", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arbiter.client, "_ANSWER_SECONDS", 0.1)
    watch = watch_quality(running_agent.directory, poll_timeout=0.1)
    next(watch)
    awake = threading.Event()

    def hangs(request: object) -> None:
        awake.wait(10)

    running_agent.misbehaviours.append(hangs)
    running_agent.write(
        (running_agent.directory / "quality.json").read_text().replace('"revision": 1', '"revision": 2')
    )
    assert next(watch).revision == 2
    awake.set()


def test_neither_an_older_target_nor_the_same_one_comes_again(running_agent: "FakeAgent") -> None:
    running_agent.publish(5)
    watch = watch_quality(running_agent.directory)
    assert next(watch).revision == 5
    stale = [answers(200, json.dumps({**running_agent.newest, "revision": revision})) for revision in (4, 5)]
    running_agent.misbehaviours.extend(stale)
    running_agent.write(json.dumps({**running_agent.newest, "revision": 3}))

    def publish_at_the_third_question() -> None:
        assert running_agent.waiting.wait(10)
        running_agent.publish(6)

    publisher = in_the_background(publish_at_the_third_question)
    assert next(watch).revision == 6
    publisher.join()


def test_the_first_target_may_come_after_the_engine(agent: "FakeAgent") -> None:
    publisher = threading.Timer(0.2, agent.publish, args=[1])
    publisher.start()
    assert next(watch_quality(agent.directory)).revision == 1
    publisher.join()


def test_a_file_that_does_not_come_is_named(agent: "FakeAgent") -> None:
    with pytest.raises(NoTargetError) as caught:
        next(watch_quality(agent.directory, start_timeout=0.1))
    assert str(caught.value) == (
        f"no quality target within 0.1 s: {agent.directory}/quality.json cannot be read (No such file or directory); "
        "does Arbiter's device plugin run on this node?"
    )


def test_a_file_that_is_no_target_is_named(agent: "FakeAgent") -> None:
    agent.write("{}")
    with pytest.raises(NoTargetError, match=r"quality.json is no QualityTarget \(KeyError: 'kind'\)"):
        next(watch_quality(agent.directory, start_timeout=0.1))


def test_a_process_outside_of_arbiter_is_told_so_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotUnderArbiterError) as caught:
        watch_quality(tmp_path / "nowhere")
    assert str(caught.value) == (
        f"{tmp_path}/nowhere is no directory, so this container does not run under Arbiter: annotate its pod with "
        "arbiter.infernum.io/allocation or arbiter.infernum.io/workload-type."
    )


def test_an_acknowledgement_states_what_the_target_allows(running_agent: "FakeAgent") -> None:
    assert next(watch_quality(running_agent.directory)).acknowledge() is True
    assert running_agent.applied == [{"revision": 1, "quality": 0.904, "vramBytes": 9256 << 20}]


def test_an_engine_that_works_in_steps_states_its_step(running_agent: "FakeAgent") -> None:
    next(watch_quality(running_agent.directory)).acknowledge(quality=0.7, vram_bytes=7 << 30)
    assert running_agent.applied == [{"revision": 1, "quality": 0.7, "vramBytes": 7 << 30}]


def test_an_acknowledgement_is_repeated_until_the_agent_has_it(running_agent: "FakeAgent") -> None:
    running_agent.misbehaviours.extend([answers(500, "disk full"), drops, answers(404, "starting"), answers(204, "")])
    assert next(watch_quality(running_agent.directory)).acknowledge() is True
    assert running_agent.requests == ["POST /v1/applied"] * 5
    assert running_agent.applied == [{"revision": 1, "quality": 0.904, "vramBytes": 9256 << 20}]


def test_an_acknowledgement_waits_for_an_agent_that_is_down(agent: "FakeAgent") -> None:
    agent.publish(1)
    restart = threading.Timer(0.2, agent.start)
    restart.start()
    assert next(watch_quality(agent.directory)).acknowledge() is True
    restart.join()
    assert len(agent.applied) == 1


def test_an_acknowledgement_that_nobody_takes_ends_when_a_newer_target_is_there(agent: "FakeAgent") -> None:
    agent.publish(1)
    current = next(watch_quality(agent.directory))
    agent.publish(2)
    assert current.acknowledge() is False


def test_an_acknowledgement_that_is_not_taken_in_time_says_what_the_agent_said(running_agent: "FakeAgent") -> None:
    running_agent.misbehaviours.extend([answers(500, "disk full")] * 50)
    with pytest.raises(AgentUnreachableError) as caught:
        next(watch_quality(running_agent.directory)).acknowledge(timeout=0.2)
    assert str(caught.value) == (
        f"revision 1 could not be acknowledged within 0.2 s: {running_agent.directory}/agent.sock answers "
        "POST /v1/applied with 500 disk full."
    )


def test_what_keeps_the_client_waiting_is_logged(running_agent: "FakeAgent", caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="arbiter.client")
    running_agent.misbehaviours.append(answers(500, "disk full"))
    next(watch_quality(running_agent.directory)).acknowledge()
    assert caplog.messages == [
        f"revision 1 is not acknowledged yet: {running_agent.directory}/agent.sock answers "
        "POST /v1/applied with 500 disk full"
    ]


def test_pauses_between_tries_double_up_to_two_seconds() -> None:
    assert list(islice(arbiter.client._pauses(), 8)) == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_the_file_may_be_copied_alone(tmp_path: Path) -> None:
    shutil.copy(arbiter.client.__file__, tmp_path / "vendored.py")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import vendored; print('arbiter' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout == "False\n"


def test_the_file_is_written_in_the_python_of_older_engines() -> None:
    ast.parse(Path(arbiter.client.__file__).read_text(), feature_version=(3, 9))
