"""Tools that fail, hang, or leave hanging children behind: real processes, and what is left of them."""

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from arbiter.detection.command import ToolError, asking
from tests.unit.detection.conftest import Machine

HANG = "/bin/sleep 600"


def await_end(pid: int) -> None:
    """Returns once the process has ended, reaped or not."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is still running")


HANGING = {
    "it hangs itself": f"echo $$ >{{pid}}; exec {HANG}",
    "it waits for a child that hangs": f"{HANG} & echo $! >{{pid}}; wait",
    "it ends, and its child keeps its output open": f"{HANG} & echo $! >{{pid}}; echo 0, GPU, 8192; exit 0",
    "it does not listen to signals": f"trap '' TERM INT HUP; {HANG} & echo $! >{{pid}}; wait; wait",
}

ESCAPING = "its child leaves the group and keeps its output open"
ESCAPE = (
    f"""{sys.executable} -S -c "import os; os.setsid(); open('{{pid}}', 'w').write(str(os.getpid())); """
    f"""os.execv('/bin/sleep', ['sleep', '600'])" & exit 0"""
)


@dataclass(frozen=True, slots=True)
class Told:
    """What was told of a tool, after how many seconds, and which process hung."""

    error: str
    seconds: float
    pid: int


def ask_hanging(tool: Path) -> Told:
    began = time.monotonic()
    with pytest.raises(ToolError) as error:
        asking(timeout=1.5)([str(tool)])
    return Told(str(error.value), time.monotonic() - began, int(tool.with_suffix(".pid").read_text()))


@pytest.fixture(scope="module")
def hanging(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """All of them at once, since each takes its whole time."""
    machine = Machine(tmp_path_factory.mktemp("hanging"))
    bodies = {**HANGING, ESCAPING: ESCAPE}
    tools = [machine.directory / f"tool-{number}" for number in range(len(bodies))]
    for tool, body in zip(tools, bodies.values(), strict=True):
        machine.script(tool.name, body.format(pid=tool.with_suffix(".pid")))
    with ThreadPoolExecutor(len(bodies)) as pool:
        return dict(zip(bodies, pool.map(ask_hanging, tools), strict=True))


@pytest.mark.parametrize("how", HANGING)
def test_a_tool_that_hangs_is_killed_with_its_children(how: str, hanging: dict[str, Told]) -> None:
    told = hanging[how]
    assert (told.error, told.seconds < 60) == ("gave no answer within 1.5 s", True)
    await_end(told.pid)


def test_a_child_that_left_the_group_does_not_hold_up_who_asks(hanging: dict[str, Told]) -> None:
    told = hanging[ESCAPING]
    assert (told.error, told.seconds < 60) == ("gave no answer within 1.5 s", True)
    os.kill(told.pid, signal.SIGKILL)


def test_all_commands_of_one_asking_share_its_time(machine: Machine) -> None:
    machine.script("quick", "echo here")
    machine.script("slow", f"exec {HANG}")
    ask = asking(timeout=1.5)
    assert ask(["quick"]) == "here\n"
    for command in ("slow", "quick"):
        with pytest.raises(ToolError, match=r"^gave no answer within 1\.5 s$"):
            ask([command])


FAILURES = {
    "without a word": ("exit 3", "failed with 3: without a word"),
    "on stderr": ("echo; echo '  broken  ' >&2; exit 1", "failed with 1: broken"),
    "on stdout": ("echo no driver; exit 9", "failed with 9: no driver"),
    "by a signal": ("kill -9 $$", "failed with -9: without a word"),
}


@pytest.mark.parametrize(("body", "said"), FAILURES.values(), ids=FAILURES.keys())
def test_a_tool_that_fails(body: str, said: str, machine: Machine) -> None:
    machine.script("nvidia-smi", body)
    with pytest.raises(ToolError) as error:
        asking(timeout=30)(["nvidia-smi"])
    assert str(error.value) == said


def test_a_tool_that_cannot_be_started(machine: Machine) -> None:
    with pytest.raises(ToolError, match=r"^cannot be started: No such file or directory$"):
        asking(timeout=30)(["nvidia-smi"])


def test_bytes_that_are_no_text_are_replaced(machine: Machine) -> None:
    machine.script("nvidia-smi", r"printf '0, GPU \377'")
    assert asking(timeout=30)(["nvidia-smi"]) == "0, GPU �"
