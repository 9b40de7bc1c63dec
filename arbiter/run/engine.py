"""One engine with all its processes: started in a session of its own, signalled, and ended down to the last child.

As the container's first process, or as the nearest subreaper, arbiter-run inherits what engines leave behind; memory of
a GPU is free when the last of these processes has gone, not when the first has.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from arbiter.run.command import Command

__all__ = ["Engine", "become_subreaper", "exit_code"]

_PR_SET_CHILD_SUBREAPER = 36
_SWEEP_SECONDS, _SWEEP_INTERVAL = 10.0, 0.01
_ON_SIGNAL = 128
"""What shells add to the number of the signal that ended a process."""


class Engine:
    """A running engine. `said` is set once it has printed a line that matches `line`."""

    def __init__(self, command: Command, *, line: re.Pattern[str] | None) -> None:
        pipe = None if line is None else subprocess.PIPE
        self.said = threading.Event()
        # Session and group of its own: a signal for all of it reaches nobody else, a terminal's reaches it only by us.
        self._process = subprocess.Popen(  # noqa: S603 - running the user's command is what this is for
            command.arguments,
            env={**os.environ, **dict(command.environment)},
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
        for stream, to in ((self._process.stdout, 1), (self._process.stderr, 2)):
            if stream is not None and line is not None:
                threading.Thread(target=self._copy, args=(stream, to, line), daemon=True).start()

    @property
    def pid(self) -> int:
        """Of its first process, and of the group."""
        return self._process.pid

    def signal(self, number: int) -> None:
        """Tell its first process."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End all of its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int | None:
        """Take in every process that has ended; the engine's status if it was among them."""
        found = None
        for pid, status in _ended():
            if pid == self.pid:
                found = exit_code(status)
                self._process.returncode = found  # so that nobody else waits for it
        return found

    def sweep(self) -> None:
        """Kill what the engine left behind, and return when it is gone."""
        self.kill()
        deadline = time.monotonic() + _SWEEP_SECONDS
        while _has_children() and time.monotonic() < deadline:
            for child in _children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            _ended()
            time.sleep(_SWEEP_INTERVAL)

    def _copy(self, stream: IO[bytes], to: int, line: re.Pattern[str]) -> None:
        with stream:
            for text in stream:
                os.write(to, text)
                if line.search(text.decode(errors="replace")):
                    self.said.set()


def become_subreaper() -> None:
    """Inherit the orphans of our descendants, as the first process of a container does anyway."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def exit_code(status: int) -> int:
    """A wait status as a shell tells it: the code, or 128 and the signal."""
    return _ON_SIGNAL + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _ended() -> list[tuple[int, int]]:
    found = []
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            found.append((pid, status))
    return found


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children() -> Sequence[int]:
    """Our children; those that made a session of their own among them, where the kernel tells."""
    with suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return ()
