"""`arbiter-run` as containers find it, with engines that are slow to start, crash, and refuse to stop."""

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arbiter_deviceplugin.wrapper import NAME, install
from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from tests.support.agent import FakeAgent


# Says when it starts and is asked to end. The file `crashes` holds how many starts fail, `stubborn` makes it refuse to
# stop, `orphan` leaves a process in a session of its own behind; up once `up` is there, then it answers on --port.
ENGINE = """
import http.server, os, pathlib, signal, subprocess, sys, threading, time
place = pathlib.Path(os.environ["PLACE"])
def say(text):
    with (place / "journal").open("a") as journal:
        journal.write(text + "\\n")
def end(number, frame):
    say(f"told {signal.Signals(number).name}")
    if not (place / "stubborn").exists():
        sys.exit(7)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, end)
say("started " + " ".join(sys.argv[1:]))
if (place / "orphan").exists():
    orphan = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], start_new_session=True)
    say(f"orphan {orphan.pid}")
crashes = place / "crashes"
if crashes.exists() and int(crashes.read_text()):
    crashes.write_text(str(int(crashes.read_text()) - 1))
    sys.exit(9)
while not (place / "up").exists():
    time.sleep(0.01)
class Up(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
if "--port" in sys.argv:
    server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Up)
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("engine is listening", flush=True)
while True:
    time.sleep(0.05)
"""


def engines_in(place: Path) -> list[str]:
    """Command lines of this place's engines that still run."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may end while we look
            lines.append(path.read_text(errors="replace"))
    return [line for line in lines if str(place / "engine.py") in line]


def eventually(look: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE:g} s"
        time.sleep(0.01)


class Bench:
    """An engine in a directory, and arbiter-run on it."""

    def __init__(self, place: Path, wrapper: Path, directory: Path) -> None:
        self.place, self._wrapper, self._directory = place, wrapper, directory
        (place / "engine.py").write_text(ENGINE)
        self.process: subprocess.Popen[str] | None = None

    def start(self, *flags: str, script: str = "engine.py") -> subprocess.Popen[str]:
        options = ("--set", "--share={gpu_fraction}", "--ready-log", "is listening", "--min-interval", "0s", *flags)
        return self.run(*options, sys.executable, "-S", str(self.place / script))

    def run(self, *words: str) -> subprocess.Popen[str]:
        """arbiter-run with these options and command; programs are found in the engine's directory too."""
        self.process = subprocess.Popen(
            [str(self._wrapper), *words],
            env={
                "PATH": f"{self.place}:{Path(sys.executable).parent}:/usr/bin:/bin",
                "ARBITER_DIR": str(self._directory),
                "PLACE": str(self.place),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self.process

    def note(self, name: str, text: str = "") -> None:
        (self.place / name).write_text(text)

    @property
    def journal(self) -> list[str]:
        path = self.place / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, *lines: str) -> None:
        eventually(lambda: self.journal == list(lines), f"journal {lines}; it is {self.journal}")

    def clear_away(self) -> None:
        """End what still runs; asked, since an arbiter-run that is killed outside of a container leaves its engine."""
        (self.place / "stubborn").unlink(missing_ok=True)
        if self.process is not None:
            self.process.terminate()
            self.process.communicate(timeout=PATIENCE)
        assert engines_in(self.place) == []

    def end(self) -> tuple[int, str]:
        """Exit code and what it said."""
        assert self.process is not None
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors


@pytest.fixture
def bench(running_agent: "FakeAgent", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("image")
    install(place / "bin")
    bench = Bench(place, place / "bin" / NAME, running_agent.directory)
    yield bench
    bench.clear_away()


def revisions(agent: "FakeAgent") -> list[object]:
    return [applied["revision"] for applied in agent.applied]


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


ENGINES = {
    "vllm": (
        "vllm serve org/7b --port {port}",
        "serve org/7b --port {port} --gpu-memory-utilization=0.7530 --tensor-parallel-size=1 --max-model-len=auto",
        "serve org/7b --port {port} --gpu-memory-utilization=0.5000 --tensor-parallel-size=1 --max-model-len=auto",
    ),
    "comfyui": (
        "python3 -S {place}/ComfyUI/main.py --port {port}",
        "--port {port} --reserve-vram=2.97",
        "--port {port} --reserve-vram=6.00",
    ),
    "diffusers": (
        "--engine diffusers --ready-log listening python3 -S {place}/draw.py",
        "--memory-fraction=0.7113 --offload=model",
        "--memory-fraction=0.4583 --offload=model",
    ),
}


@pytest.mark.parametrize(("command", "first", "second"), ENGINES.values(), ids=ENGINES.keys())
def test_a_known_engine_that_crashes_starts_slowly_and_refuses_to_stop_follows_its_target(
    bench: Bench, running_agent: "FakeAgent", command: str, first: str, second: str
) -> None:
    names = {"port": str(free_port()), "place": str(bench.place)}
    for path in ("vllm", "ComfyUI/main.py", "draw.py"):
        program = bench.place / path
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable} -S\n{ENGINE}")
        program.chmod(0o755)
    started, again = (f"started {line.format(**names)}" for line in (first, second))
    bench.note("crashes", "1")

    process = bench.run("--min-interval", "0s", "--grace", "0.3s", *command.format(**names).split())
    bench.wait_for(started, started)
    assert revisions(running_agent) == []
    bench.note("up")
    eventually(lambda: revisions(running_agent) == [1], "first acknowledgement")
    bench.note("stubborn")
    running_agent.publish(2, quality=0.6, gpuFraction=0.5, vramBytes=6 << 30)

    bench.wait_for(started, started, "told SIGTERM", again)
    eventually(lambda: revisions(running_agent) == [1, 2], "second acknowledgement")
    (bench.place / "stubborn").unlink()
    process.terminate()
    assert bench.end()[0] == 7


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_an_engine_acknowledges_its_target_once_it_is_up(bench: Bench, running_agent: "FakeAgent") -> None:
    bench.start()
    bench.wait_for("started --share=0.7530")
    assert revisions(running_agent) == []

    bench.note("up")

    eventually(lambda: revisions(running_agent) == [1], "acknowledgement")
    assert running_agent.applied == [{"revision": 1, "quality": 0.904, "vramBytes": 9256 << 20}]


def test_an_acknowledgement_is_repeated_until_the_agent_has_it(bench: Bench, running_agent: "FakeAgent") -> None:
    running_agent.misbehaviours.extend([lambda request: request.answer(503, "busy")] * 4)
    bench.note("up")
    bench.start()

    eventually(lambda: revisions(running_agent) == [1], "acknowledgement")
    assert not running_agent.misbehaviours


def test_a_new_target_ends_the_engine_and_starts_it_with_other_flags(bench: Bench, running_agent: "FakeAgent") -> None:
    bench.note("up")
    bench.start("--drain-signal", "INT")
    eventually(lambda: revisions(running_agent) == [1], "first acknowledgement")
    (bench.place / "up").unlink()

    running_agent.publish(2, gpuFraction=0.5, vramBytes=6 << 30)

    bench.wait_for("started --share=0.7530", "told SIGINT", "started --share=0.5000")
    assert revisions(running_agent) == [1]
    bench.note("up")
    eventually(lambda: revisions(running_agent) == [1, 2], "second acknowledgement")


def test_a_target_that_changes_no_flag_is_acknowledged_without_a_restart(
    bench: Bench, running_agent: "FakeAgent"
) -> None:
    bench.note("up")
    bench.start()
    eventually(lambda: revisions(running_agent) == [1], "first acknowledgement")

    running_agent.publish(2, quality=0.903)

    eventually(lambda: revisions(running_agent) == [1, 2], "second acknowledgement")
    assert bench.journal == ["started --share=0.7530"]


def test_an_engine_that_refuses_to_stop_is_killed_with_all_that_it_left(
    bench: Bench, running_agent: "FakeAgent"
) -> None:
    for name in ("up", "stubborn", "orphan"):
        bench.note(name)
    bench.start("--grace", "0.3s")
    eventually(lambda: revisions(running_agent) == [1], "first acknowledgement")
    orphan = int(bench.journal[1].split()[1])
    (bench.place / "orphan").unlink()

    running_agent.publish(2, gpuFraction=0.5)

    bench.wait_for("started --share=0.7530", f"orphan {orphan}", "told SIGTERM", "started --share=0.5000")
    assert not is_alive(orphan)


def test_a_failed_start_is_tried_again(bench: Bench, running_agent: "FakeAgent") -> None:
    bench.note("up")
    bench.note("crashes", "1")
    bench.start()

    eventually(lambda: revisions(running_agent) == [1], "acknowledgement")
    assert bench.journal == ["started --share=0.7530"] * 2


def test_an_engine_that_never_starts_ends_with_its_own_code(bench: Bench, running_agent: "FakeAgent") -> None:
    bench.note("crashes", "9")
    bench.start("--retries", "0")

    code, _ = bench.end()

    assert code == 9
    assert revisions(running_agent) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 7), (signal.SIGINT, 7), (signal.SIGKILL, 137)])
def test_signals_reach_the_engine_whose_code_is_the_container_s(
    bench: Bench, running_agent: "FakeAgent", number: signal.Signals, code: int
) -> None:
    bench.note("up")
    process = bench.start()
    eventually(lambda: revisions(running_agent) == [1], "acknowledgement")

    if number is signal.SIGKILL:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), number)
    else:
        process.send_signal(number)

    assert bench.end()[0] == code


def test_a_signal_that_ends_nobody_is_passed_on(bench: Bench, running_agent: "FakeAgent") -> None:
    bench.note("up")
    bench.note("stubborn")
    process = bench.start("--grace", "0s")
    eventually(lambda: revisions(running_agent) == [1], "acknowledgement")

    process.send_signal(signal.SIGUSR1)

    bench.wait_for("started --share=0.7530", "told SIGUSR1")
    assert process.poll() is None


def test_a_stubborn_engine_is_killed_at_the_end_too(bench: Bench, running_agent: "FakeAgent") -> None:
    bench.note("up")
    bench.note("stubborn")
    process = bench.start("--grace", "0.2s")
    eventually(lambda: revisions(running_agent) == [1], "acknowledgement")

    process.terminate()

    assert bench.end()[0] == 137


def test_without_a_first_target_a_signal_ends_it(bench: Bench, running_agent: "FakeAgent") -> None:
    (running_agent.directory / "quality.json").unlink()
    process = bench.start()
    eventually(lambda: _catches(process.pid, signal.SIGTERM), "handler")

    process.terminate()

    assert bench.end()[0] == 143


def _catches(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def test_the_present_command_can_be_shown(bench: Bench) -> None:
    process = bench.start("--env", "SHARE={vram_gib}", "--show")

    output, errors = process.communicate(timeout=PATIENCE)

    assert (process.returncode, errors) == (0, "")
    assert output == f"SHARE=9.03 {sys.executable} -S {bench.place / 'engine.py'} --share=0.7530\n"


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (("--set", "{nothing}"), 2, "arbiter-run: {nothing} stands for nothing; write one of"),
        (("--headroom", "900Gi"), 2, "arbiter-run: --headroom leaves nothing of the target's 9256Mi; write a smaller"),
    ],
)
def test_what_cannot_work_ends_with_a_sentence(bench: Bench, flags: tuple[str, ...], code: int, sentence: str) -> None:
    bench.start(*flags)

    ended, said = bench.end()

    assert ended == code
    assert said.startswith(sentence)
    assert said.count("\n") == 1


def test_outside_of_arbiter_it_says_so(bench: Bench, running_agent: "FakeAgent") -> None:
    (running_agent.directory / "quality.json").unlink()
    running_agent.stop()
    running_agent.directory.rmdir()
    bench.start()

    code, said = bench.end()

    assert code == 2
    assert "so this container does not run under Arbiter" in said


def test_an_image_without_python_is_told_so(bench: Bench) -> None:
    wrapper = bench.place / "bin" / NAME

    ended = subprocess.run([wrapper, "vllm"], env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False)

    assert ended.returncode == 127
    assert ended.stderr == (
        "arbiter-run: this image has no Python 3.8 or newer on its PATH; add one, or run the engine alone.\n"
    )


def test_the_file_is_made_for_every_container_and_holds_what_python_3_8_reads(bench: Bench) -> None:
    wrapper = bench.place / "bin" / NAME

    assert wrapper.stat().st_mode & 0o777 == 0o755
    with zipfile.ZipFile(wrapper) as archive:
        names = archive.namelist()
        for name in names:
            ast.parse(archive.read(name), feature_version=(3, 8))
    assert {"__main__.py", "arbiter/__init__.py", "arbiter/client.py", "arbiter/run/main.py"} <= set(names)
    assert [name for name in names if name.count("/") == 1] == ["arbiter/__init__.py", "arbiter/client.py"]
