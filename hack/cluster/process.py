"""Processes that outlive the command which started them: recorded with pid and start time, found again, ended.

A pid alone may by now belong to somebody else; with the start time it cannot. Imports `errors` and `command`.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hack.cluster.command import NO_PROXY, program, search_path
from hack.cluster.errors import ComponentError

_POLL_SECONDS = 0.03
_KILL_SECONDS = 15.0
_STAT_STATE, _STAT_THREADS, _STAT_START_TIME = 0, 17, 19  # proc_pid_stat(5), counted after the command's parenthesis
_TAIL_LINES = 8


@dataclass(frozen=True)
class Record:
    """One started process. `start_time` is in clock ticks since boot, as in /proc/PID/stat."""

    command: tuple[str, ...]
    pid: int
    start_time: int


def start_time(pid: int) -> int | None:
    """Returns a living process's start time in clock ticks since boot; None for one that is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    # A zombie with threads is a killed process whose other threads still end: until then it keeps its sockets.
    ended = fields[_STAT_STATE] in "ZX" and int(fields[_STAT_THREADS]) <= 1
    return None if ended else int(fields[_STAT_START_TIME])


class Processes:
    """The named processes of one directory: records in `run/NAME.json`, output in `logs/NAME.log`.

    Names may have slashes, as `kubelet/gpu-1`. With `die_with_parent` they end when the starting process does.
    """

    def __init__(
        self, directory: Path, *, environment: Mapping[str, str] | None = None, die_with_parent: bool = False
    ) -> None:
        self._records = directory / "run"
        self._logs = directory / "logs"
        self._environment = dict(environment or {})
        self._prefix = ("setpriv", "--pdeathsig", "KILL") if die_with_parent else ()

    def names(self) -> list[str]:
        """Returns every name that was ever started here, in the order of first start."""
        paths = sorted(self._records.rglob("*.json"), key=lambda path: path.stat().st_ctime_ns)
        return [str(path.relative_to(self._records).with_suffix("")) for path in paths]

    def log(self, name: str) -> Path:
        """Returns the file that a process's output goes to."""
        return self._logs / f"{name}.log"

    def alive(self, name: str) -> bool:
        """Says whether the recorded process runs; a zombie does not."""
        record = self._read(name)
        return record is not None and _alive(record)

    def pid(self, name: str) -> int:
        """Returns the pid of a running process; raises ComponentError when it does not run."""
        record = self._read(name)
        if record is None or not _alive(record):
            raise ComponentError(f"{name} does not run.")
        return record.pid

    def start(self, name: str, command: tuple[str, ...]) -> None:
        """Starts a process unless it runs already."""
        if self.alive(name):
            return
        log = self.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        arguments = (*self._prefix, *command)
        # Not subprocess.Popen: it warns when it is forgotten before its process has ended.
        pid = os.posix_spawn(
            program(arguments[0]),
            arguments,
            os.environ | {"PATH": search_path()} | NO_PROXY | self._environment,
            setsid=True,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )
        self._write(name, Record(command=command, pid=pid, start_time=start_time(pid) or 0))

    def start_again(self, name: str) -> None:
        """Starts a process with the command that it was last started with, unless it runs already."""
        record = self._read(name)
        if record is None:
            raise ComponentError(f"There is no component {name}; there are: {', '.join(self.names())}.")
        self.start(name, record.command)

    def kill(self, name: str) -> None:
        """Ends a process with SIGKILL and waits until it is gone."""
        if record := self._read(name):
            end(record.pid, record.start_time, signal.SIGKILL, seconds=_KILL_SECONDS)

    def stop(self, name: str, *, seconds: float = 5.0) -> None:
        """Asks a process to end, kills it after `seconds`, and waits until it is gone."""
        if record := self._read(name):
            end(record.pid, record.start_time, signal.SIGTERM, seconds=seconds)
            self.kill(name)

    def reap(self) -> None:
        """Lets the kernel forget those ended processes that are children of this one."""
        for name in self.names():
            if record := self._read(name):
                _reap(record.pid)

    def tail(self, name: str) -> str:
        """Returns the last lines of a process's output, indented for use below a message."""
        try:
            lines = self.log(name).read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        except FileNotFoundError:
            lines = []
        return "\n".join(f"    {line[:240]}" for line in lines) or "    (it printed nothing)"

    def wait(self, name: str, what: str, condition: Callable[[], bool], *, seconds: float) -> None:
        """Waits until `condition` holds, which the process `name` is to bring about.

        Raises:
            ComponentError: the process ended, or the time is over; the message has the tail of its log.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if not self.alive(name):
                raise ComponentError(f"{name} ended while waiting for {what}; {self._log_says(name)}")
            if time.monotonic() > deadline:
                raise ComponentError(f"No {what} from {name} within {seconds:g} s; {self._log_says(name)}")
            time.sleep(_POLL_SECONDS)

    def _log_says(self, name: str) -> str:
        return f"{self.log(name)} ends:\n{self.tail(name)}"

    def _read(self, name: str) -> Record | None:
        try:
            stored = json.loads((self._records / f"{name}.json").read_text())
        except FileNotFoundError:
            return None
        return Record(command=tuple(stored["command"]), pid=stored["pid"], start_time=stored["start_time"])

    def _write(self, name: str, record: Record) -> None:
        path = self._records / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(record)))


def end(pid: int, started: int, number: signal.Signals, *, seconds: float) -> None:
    """Signals a process, if it is still the one that started at that time, and waits for its end at most `seconds`."""
    deadline = time.monotonic() + seconds
    if start_time(pid) == started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    while start_time(pid) == started and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    _reap(pid)


def _reap(pid: int) -> None:
    # It is no child where an earlier command started it; then init does this.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _alive(record: Record) -> bool:
    return start_time(record.pid) == record.start_time
