import json
import os
import signal
from pathlib import Path

import pytest

from hack.cluster.errors import ComponentError
from hack.cluster.process import Processes, end, start_time


def test_a_process_is_found_again_by_another_command(tmp_path: Path) -> None:
    Processes(tmp_path).start("sleeper/one", ("sleep", "60"))
    later = Processes(tmp_path)
    assert later.names() == ["sleeper/one"]
    assert later.alive("sleeper/one")
    later.kill("sleeper/one")
    assert not later.alive("sleeper/one")


def test_a_killed_process_starts_again_as_before(tmp_path: Path) -> None:
    processes = Processes(tmp_path, environment={"GREETING": "hello"})
    processes.start("speaker", ("sh", "-c", 'echo "$GREETING"; exec sleep 60'))
    processes.wait("speaker", "greeting", lambda: log(processes).count("hello") == 1, seconds=10)
    first = processes.pid("speaker")
    processes.kill("speaker")
    processes.start_again("speaker")
    try:
        processes.wait("speaker", "second greeting", lambda: log(processes).count("hello") == 2, seconds=10)
        assert processes.pid("speaker") != first
    finally:
        processes.kill("speaker")


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("deaf", ("sh", "-c", "trap '' TERM; echo set; while :; do sleep 1; done"))
    processes.wait("deaf", "trap", lambda: "set" in processes.log("deaf").read_text(), seconds=10)
    processes.stop("deaf", seconds=0.2)
    assert not processes.alive("deaf")


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("sleeper", ("sleep", "60"))
    pid = processes.pid("sleeper")
    started = start_time(pid)
    assert started is not None
    record = tmp_path / "run" / "sleeper.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"start_time": started - 1}))
    try:
        processes.kill("sleeper")
        assert start_time(pid) == started
    finally:
        end(pid, started, signal.SIGKILL, seconds=10)


def test_waiting_for_a_process_that_ended_shows_the_tail_of_its_log(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("failing", ("sh", "-c", "echo no such flag >&2; exit 1"))
    with pytest.raises(ComponentError, match=r"failing ended while waiting for an answer(.|\n)*no such flag"):
        processes.wait("failing", "an answer", lambda: False, seconds=10)


def test_waiting_in_vain_names_what_was_waited_for(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("silent", ("sleep", "60"))
    try:
        with pytest.raises(ComponentError, match=r"No answer from silent within 0.1 s(.|\n)*it printed nothing"):
            processes.wait("silent", "answer", lambda: False, seconds=0.1)
    finally:
        processes.kill("silent")


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("sleeper", ("sleep", "60"))
    processes.kill("sleeper")
    with pytest.raises(ComponentError, match="no component dreamer; there are: sleeper"):
        processes.start_again("dreamer")


def test_a_process_can_be_made_to_end_with_the_one_that_started_it(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        processes = Processes(tmp_path, die_with_parent=True)
        processes.start("follower", ("sh", "-c", "echo bound; exec sleep 60"))
        processes.wait("follower", "its first line", lambda: processes.log("follower").read_text() != "", seconds=10)
        os._exit(0)
    os.waitpid(child, 0)
    record = json.loads((tmp_path / "run" / "follower.json").read_text())
    end(record["pid"], record["start_time"], signal.SIGCONT, seconds=10)
    assert start_time(record["pid"]) is None


def log(processes: Processes) -> str:
    return processes.log("speaker").read_text()
