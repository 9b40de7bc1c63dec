"""`arbiter ...` as a process of its own, in no time: forked from one that has the program's imports behind it.

Whoever calls `preload` first saves each process 0.7 s of CPU; without it a process imports what it needs, as always.
"""

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from arbiter_cli.main import main

_FORKS = multiprocessing.get_context("forkserver")
_PR_SET_PDEATHSIG = 1  # prctl(2)
_LINKERS = "LD_LIBRARY_PATH"
"""What the dynamic linker reads once, when a program starts: with another value it has to start anew."""


def preload(*modules: str) -> None:
    """Which modules every process that is started from now on finds imported; to be said before the first starts."""
    _FORKS.set_forkserver_preload(["arbiter_cli.main", *modules])


class Program:
    """One process of Arbiter, started at once. It ends with the process that started it, however that ends."""

    def __init__(self, *arguments: str, log: Path) -> None:
        log.touch()  # whoever waits for the process may read it at once
        self._process: ForkServerProcess = _FORKS.Process(
            target=_run, args=(arguments, str(log), dict(os.environ)), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

    def kill(self, *, patience: float) -> None:
        self._end(signal.SIGKILL, patience)

    def stop(self, *, patience: float) -> int:
        """Asks it to end; its exit code."""
        return self._end(signal.SIGTERM, patience)

    def _end(self, number: signal.Signals, patience: float) -> int:
        if self.is_running:
            os.kill(self.pid, number)
        self._process.join(patience)
        assert self._process.exitcode is not None, f"process {self.pid} has not ended within {patience:g} s"
        return self._process.exitcode


def _run(arguments: tuple[str, ...], log: str, environment: dict[str, str]) -> None:
    gc.freeze()  # a collection would write to what the forks share, and so copy it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # For a program that starts anew: the server of forks ends once nobody is left who could ask it for more.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    anew = environment.get(_LINKERS) != os.environ.get(_LINKERS)
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)
    sys.argv = ["arbiter", *arguments]
    if anew:
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # with what keeps the server of forks alive
        os.execv(Path(sys.executable).with_name("arbiter"), sys.argv)  # noqa: S606 - our own program, by its path
    sys.exit(main(arguments))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
