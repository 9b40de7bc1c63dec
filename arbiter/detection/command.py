"""Runs a vendor's tool for as long as it may take and no longer. Imports the standard library only.

A wedged driver hangs its tools, at worst where no signal reaches them: whoever asks goes on all the same.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from arbiter.arguments import LONGEST_WAIT

Ask = Callable[[Sequence[str]], str]
"""Runs a command and returns what it wrote to stdout; raises ToolError."""

_KILL_GRACE = 1.0
"""Seconds that a killed tool may take to end; one that hangs in its driver is left to the system."""


class ToolError(Exception):
    """A tool gave no answer that can be read; the text is a clause that says why."""


def asking(*, timeout: float) -> Ask:
    """An `Ask` whose commands may take `timeout` seconds, all together."""
    deadline = time.monotonic() + min(timeout, LONGEST_WAIT)

    def ask(command: Sequence[str]) -> str:
        return _output(command, deadline=deadline, timeout=timeout)

    return ask


def _output(command: Sequence[str], *, deadline: float, timeout: float) -> str:
    try:
        process = subprocess.Popen(  # noqa: S603 - a fixed command; its tool is found on the PATH as people's is
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"cannot be started: {error.strerror}") from error
    try:
        output, complaint = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"gave no answer within {timeout:g} s") from error
    finally:
        if process.returncode is None:
            _end(process)
    if process.returncode:
        said = next((line.strip() for line in (complaint + output).splitlines() if line.strip()), "without a word")
        raise ToolError(f"failed with {process.returncode}: {said}")
    return output


def _end(process: subprocess.Popen[str]) -> None:
    """Kills it with everything that it started. It is not reaped yet, so that its group is still its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_KILL_GRACE)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
