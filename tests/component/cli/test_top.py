"""`arbiter top` against a real API server: once, and live on a terminal with keys and an outage."""

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from hack.cluster.controlplane import ControlPlane
from tests.component.cli.support import Arbiter
from tests.component.kube.support import Cable
from tests.support.patience import PATIENCE

ARBITER = Path(sys.executable).with_name("arbiter")


def test_it_prints_once_where_there_is_no_terminal(arbiter: Arbiter) -> None:
    code, out, err = arbiter("top")
    assert (code, err) == (0, "")
    assert "1 node  1 GPU  2 grants  1 waiting" in out
    assert "gpu-1/0  SIM-12G  12.00Gi" in out
    assert "team-a/chat     llm    High        0.904 #########.  9256Mi" in out
    assert "\x1b" not in out


def test_formats_are_those_of_kubectl(arbiter: Arbiter) -> None:
    as_json = json.loads(arbiter("top", "-o", "json")[1])
    as_yaml = yaml.safe_load(arbiter("top", "-o", "yaml", "-A")[1])
    assert as_json["rows"][0]["uuid"] == as_yaml["rows"][0]["uuid"] == "GPU-0"
    assert arbiter("top", "-o", "name", "-n", "team-a")[1] == "pod/chat\npod/posters\npod/render\n"
    assert "UUID" in arbiter("top", "-o", "wide")[1]


class Terminal:
    """The real command on a terminal of 30 lines; `screen` is all that it has drawn."""

    def __init__(self, kubeconfig: Path) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(30, 120)
        self._process = subprocess.Popen(
            [ARBITER, "top", "--kubeconfig", str(kubeconfig)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(theirs)
        self._drawn = ""
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    @property
    def raw(self) -> str:
        return self._drawn

    @property
    def screen(self) -> str:
        """The latest frame, without what moves cursors and makes colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._drawn.rpartition("arbiter top  ")[2])

    def _read(self) -> None:
        try:
            self._drawn += os.read(self._ours, 65536).decode(errors="ignore")
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self._ours)

    def resize(self, height: int, width: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    async def shows(self, text: str) -> None:
        """Returns once the screen has the text."""
        await self._until(lambda: text in self.screen, f"no {text!r} on the screen")

    async def shows_no(self, text: str) -> None:
        """Returns once a whole screen was drawn without the text."""
        await self._until(lambda: text not in self.screen and "gpu-1/0" in self.screen, f"{text!r} stays on the screen")

    async def ended(self) -> int:
        """The exit code, once it has ended."""
        return await asyncio.to_thread(self._process.wait, PATIENCE)

    def interrupt(self) -> None:
        """What a terminal of its own would do at ctrl-c."""
        self._process.send_signal(signal.SIGINT)

    def tell_size(self) -> None:
        """What a terminal of its own would do after `resize`."""
        self._process.send_signal(signal.SIGWINCH)

    async def _until(self, holds: Callable[[], bool], failure: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert self._process.poll() is None, self.raw[-2000:]
            assert time.monotonic() < deadline, f"{failure}:\n{self.screen}"
            await asyncio.sleep(0.05)

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._ours)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        os.close(self._ours)


@pytest.fixture
async def cable(control_plane: ControlPlane) -> AsyncIterator[Cable]:
    cable = Cable(control_plane.place.ports.apiserver)
    await cable.open()
    yield cable
    await cable.cut()


@pytest.fixture
async def terminal(control_plane: ControlPlane, cable: Cable, tmp_path: Path) -> AsyncIterator[Terminal]:
    config = yaml.safe_load(control_plane.admin_kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{cable.port}"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    terminal = Terminal(path)
    yield terminal
    terminal.close()


async def test_it_lives_on_a_terminal(terminal: Terminal, cable: Cable) -> None:
    before = terminal.settings()
    await terminal.shows("team-a/chat     llm    High        0.904 #########.")
    terminal.type("j\r")
    await terminal.shows("What would change it (each line computed by the solver):")
    terminal.type("\x1b")
    await terminal.shows("WAITING  team-a/render")
    terminal.type("s")
    await terminal.shows("all namespaces, sorted by price")
    terminal.resize(12, 60)
    os.kill(terminal._process.pid, 28)
    await cable.cut()
    await terminal.shows("The API server does not answer for")
    assert "team-a/chat" in terminal.screen
    await cable.open()
    await terminal.shows_no("does not answer")
    terminal.type("q")
    assert await terminal.ended() == 0
    assert terminal.settings() == before
    assert "\x1b[?1049l" in terminal.raw  # the screen of before is back


async def test_an_interrupt_ends_it_cleanly(terminal: Terminal) -> None:
    await terminal.shows("team-a/posters")
    terminal.interrupt()
    assert await terminal.ended() == 0
    assert "Traceback" not in terminal.raw
