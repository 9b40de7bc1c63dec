import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import arbiter.client

if TYPE_CHECKING:
    from tests.support.agent import FakeAgent

CHECKOUT = Path(__file__).parents[3]
JOURNAL = re.compile(
    r"journal (\d+\.\d{6}) (started|told|applied|acknowledged|released)"
    r"(?: revision=(\d+) quality=([\d.]+) vramBytes=(\d+) gpus=(\S+))?\n"
)


class RunningEngine:
    """The engine with its files laid out as in its image, in a Python that sees no installed package."""

    def __init__(self, image: Path, directory: Path, *flags: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-B", str(image / "engine.py"), *flags],
            env={"PATH": os.environ["PATH"], "ARBITER_DIR": str(directory), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def lines(self, count: int) -> list[str]:
        return [self.line() for _ in range(count)]

    def end(self) -> tuple[int, str, str]:
        """Exit status, the rest of stdout, stderr."""
        output, errors = self.process.communicate(timeout=30)
        return self.process.returncode, output, errors

    def terminate(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGTERM)
        return self.end()


class Engines:
    """Starts engines on one agent and ends what is left of them."""

    def __init__(self, image: Path, directory: Path) -> None:
        self._image, self._directory = image, directory
        self._running: list[RunningEngine] = []

    def start(self, *flags: str, **environment: str) -> RunningEngine:
        self._running.append(RunningEngine(self._image, self._directory, *flags, **environment))
        return self._running[-1]

    def end_all(self) -> None:
        for engine in self._running:
            engine.process.kill()
            engine.process.communicate(timeout=30)


@pytest.fixture
def engines(agent: "FakeAgent", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    image = tmp_path_factory.mktemp("image")
    shutil.copy(CHECKOUT / "hack/engine/engine.py", image / "engine.py")
    (image / "arbiter").mkdir()
    shutil.copy(arbiter.client.__file__, image / "arbiter/client.py")
    started = Engines(image, agent.directory)
    yield started
    started.end_all()


def without_time(text: str) -> str:
    return re.sub(r"after [\d.]+s:", "after Ts:", text)


def test_each_target_is_applied_then_acknowledged_until_sigterm(running_agent: "FakeAgent", engines: Engines) -> None:
    engine = engines.start("--apply-seconds=0.05", "--no-journal")
    first = engine.lines(3)
    running_agent.publish(2, quality=0.684, vramBytes=7002 << 20)
    second = engine.lines(2)
    status, rest, errors = engine.terminate()
    assert [*first, *second, without_time(rest)] == [
        "started honest, applies after 0.05s, runs until SIGTERM\n",
        "quality 0.904 9256Mi revision 1 context full(8192) kv 1/2 applied after 0.05s\n",
        "quality 0.904 9256Mi revision 1 acknowledged\n",
        "quality 0.684 7002Mi revision 2 context reduced(4096) kv 1 applied after 0.05s\n",
        "quality 0.684 7002Mi revision 2 acknowledged\n",
        "released 7002Mi after Ts: SIGTERM\n",
    ]
    assert (status, errors) == (0, "")
    assert running_agent.applied == [
        {"revision": 1, "quality": 0.904, "vramBytes": 9256 << 20},
        {"revision": 2, "quality": 0.684, "vramBytes": 7002 << 20},
    ]


def test_the_journal_has_each_step_in_order_with_exact_bytes(running_agent: "FakeAgent", engines: Engines) -> None:
    engine = engines.start("--apply-seconds=0.05")
    printed = engine.lines(7)
    printed += engine.terminate()[1].splitlines(keepends=True)
    steps = [match.groups() for line in printed if (match := JOURNAL.fullmatch(line))]
    assert [step[1:] for step in steps] == [
        ("started", None, None, None, None),
        ("told", "1", "0.904", "9705619456", "GPU-0"),
        ("applied", "1", "0.904", "9705619456", "GPU-0"),
        ("acknowledged", "1", "0.904", "9705619456", "GPU-0"),
        ("released", None, None, None, None),
    ]
    times = [float(step[0]) for step in steps]
    assert times == sorted(times)
    assert times[2] - times[1] >= 0.05


def test_a_run_that_is_complete_ends_like_a_job(running_agent: "FakeAgent", engines: Engines) -> None:
    status, output, errors = engines.start("--no-journal", ENGINE_RUN_SECONDS="2", ENGINE_APPLY_SECONDS="0").end()
    assert without_time(output).splitlines() == [
        "started honest, applies after 0s, runs until 2s have passed",
        "quality 0.904 9256Mi revision 1 context full(8192) kv 1/2 applied after 0s",
        "quality 0.904 9256Mi revision 1 acknowledged",
        "released 9256Mi after Ts: run complete",
    ]
    assert (status, errors) == (0, "")


def test_a_silent_engine_applies_and_never_acknowledges(running_agent: "FakeAgent", engines: Engines) -> None:
    engine = engines.start("--silent", "--apply-seconds=0", "--no-journal")
    engine.lines(2)
    running_agent.publish(2)
    assert engine.line() == "quality 0.904 9256Mi revision 2 context full(8192) kv 1/2 applied after 0s\n"
    engine.terminate()
    assert running_agent.applied == []


@pytest.mark.parametrize("flags", [["--lie"], ["--manner=lying"]])
def test_a_lying_engine_acknowledges_and_keeps_what_it_first_got(
    running_agent: "FakeAgent", engines: Engines, flags: list[str]
) -> None:
    engine = engines.start(*flags, "--apply-seconds=0")
    engine.lines(6)
    running_agent.publish(2, quality=0.6, vramBytes=4 << 30)
    told, applied, _, acknowledged = engine.lines(4)
    assert (told.split()[2], told.split()[5]) == ("told", f"vramBytes={4 << 30}")
    assert (applied.split()[2], applied.split()[5]) == ("applied", f"vramBytes={9256 << 20}")
    assert acknowledged == "quality 0.600 4096Mi revision 2 acknowledged, still using 9256Mi\n"
    assert without_time(engine.terminate()[1]).endswith("released 9256Mi after Ts: SIGTERM\n")
    assert running_agent.applied[-1] == {"revision": 2, "quality": 0.6, "vramBytes": 4 << 30}


def test_a_repeating_engine_acknowledges_everything_twice(running_agent: "FakeAgent", engines: Engines) -> None:
    engine = engines.start("--manner=repeating", "--apply-seconds=0", "--no-journal")
    assert engine.lines(4)[2:] == ["quality 0.904 9256Mi revision 1 acknowledged\n"] * 2
    engine.terminate()
    assert [report["revision"] for report in running_agent.applied] == [1, 1]


def test_sigterm_ends_an_engine_that_is_busy_applying(running_agent: "FakeAgent", engines: Engines) -> None:
    engine = engines.start("--apply-seconds=3600")
    assert "told revision=1" in engine.lines(3)[2]
    status, rest, _ = engine.terminate()
    assert status == 0
    assert without_time(rest).endswith("released 0Mi after Ts: SIGTERM\n")


def test_sigterm_ends_an_engine_whose_agent_is_down(agent: "FakeAgent", engines: Engines) -> None:
    agent.publish(1)
    engine = engines.start("--apply-seconds=0", "--no-journal")
    engine.lines(2)
    assert engine.terminate()[0] == 0


def test_a_target_that_came_while_the_agent_was_down_supersedes_the_one_before(
    agent: "FakeAgent", engines: Engines
) -> None:
    agent.publish(1)
    engine = engines.start("--apply-seconds=0", "--no-journal")
    engine.lines(2)
    agent.publish(2)
    assert engine.line() == "quality 0.904 9256Mi revision 1 superseded before its acknowledgement\n"
    agent.start()
    assert engine.lines(2)[1] == "quality 0.904 9256Mi revision 2 acknowledged\n"
    engine.terminate()
    assert [report["revision"] for report in agent.applied] == [2]


@pytest.mark.parametrize(
    ("quality", "pressure", "expected"),
    [
        (1.0, "Low", "context full(1000) kv 1"),
        (0.9, "Moderate", "context full(1000) kv 1"),
        (0.899, "High", "context reduced(500) kv 1/2"),
        (0.7, "High", "context reduced(500) kv 1"),
        (0.6, "Critical", "context reduced(500) kv 1/4"),
        (0.599, "High", "context minimal(250) kv 1"),
        (0.5, "Critical", "context minimal(250) kv 1"),
    ],
)
def test_context_and_kv_cache_follow_quality_and_pressure(
    running_agent: "FakeAgent", engines: Engines, quality: float, pressure: str, expected: str
) -> None:
    running_agent.publish(1, quality=quality, pressure=pressure)
    engine = engines.start("--apply-seconds=0", "--no-journal", ENGINE_CONTEXT="1000")
    assert engine.lines(2)[1] == f"quality {quality:.3f} 9256Mi revision 1 {expected} applied after 0s\n"
    engine.terminate()


def test_an_engine_outside_of_arbiter_says_so_in_one_line(agent: "FakeAgent", engines: Engines) -> None:
    status, _, errors = engines.start(ARBITER_DIR="/nowhere").end()
    assert (status, errors) == (
        1,
        "engine: /nowhere is no directory, so this container does not run under Arbiter: annotate its pod with "
        "arbiter.infernum.io/allocation or arbiter.infernum.io/workload-type.\n",
    )


@pytest.mark.parametrize(
    ("flags", "environment", "sentence"),
    [
        (
            ["--apply-seconds=-1"],
            {},
            "argument --apply-seconds: -1 is no time in seconds; write 0 or more, such as 0.3",
        ),
        (["--run-seconds=ten"], {}, "argument --run-seconds: invalid seconds value: 'ten'"),
        (["--silent", "--lie"], {}, "argument --lie: not allowed with argument --silent"),
        ([], {"ENGINE_MANNER": "rude"}, "argument --manner: invalid Manner value: 'rude'"),
    ],
)
def test_a_bad_command_line_is_refused(
    agent: "FakeAgent", engines: Engines, flags: list[str], environment: dict[str, str], sentence: str
) -> None:
    status, _, errors = engines.start(*flags, **environment).end()
    assert (status, errors.splitlines()[-1]) == (2, f"engine: error: {sentence}")
