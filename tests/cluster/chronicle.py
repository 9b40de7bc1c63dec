"""What happened in every container, read from the logs that the nodes keep, while the tests run.

A log is opened as soon as it is there and read to its end: an open file survives the removal of its pod. A container
that is killed writes no last line; that it has ended is seen from its process.
"""

import re
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from hack.cluster.cluster import Cluster
from hack.journal import Step, StepKind, parse

_POLL_SECONDS = 0.2
_POD = re.compile(r"pod([0-9a-f-]{36})/")


class Chronicle:
    """Journals by pod UID; `with Chronicle(cluster) as chronicle:` follows every container until the end."""

    def __init__(self, cluster: Cluster) -> None:
        self._roots = [node.pod_logs for node in cluster.nodes]
        self._files: dict[Path, TextIO] = {}
        self._steps: dict[str, list[Step]] = defaultdict(list)
        self._seen_alive: dict[str, float] = {}
        self._alive: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="chronicle")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for file in self._files.values():
            file.close()

    def journals(self) -> dict[str, list[Step]]:
        """The steps of every container that ever ran, by pod UID; the last one of those that ended is their release."""
        with self._lock:
            self._read()
            return {uid: self._with_its_end(uid, steps) for uid, steps in self._steps.items()}

    def _with_its_end(self, uid: str, steps: list[Step]) -> list[Step]:
        if not steps or uid in self._alive or steps[-1].kind is StepKind.RELEASED:
            return [*steps]
        ended = max(steps[-1].time, self._seen_alive.get(uid, 0.0))
        return [*steps, Step(time=ended, kind=StepKind.RELEASED)]

    def _follow(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                self._read()
            time.sleep(_POLL_SECONDS)

    def _read(self) -> None:
        # The processes first: who is not among them has written its last line.
        self._alive = pods_with_engines()
        self._seen_alive.update(dict.fromkeys(self._alive, time.time()))
        for root in self._roots:
            for path in sorted(root.glob("*_*_*/engine/*.log")):
                if path not in self._files:
                    self._files[path] = path.open(encoding="utf-8")
        for path, file in [*self._files.items()]:
            is_there = path.exists()
            uid = path.parent.parent.name.rsplit("_", 1)[1]
            while (line := file.readline()).endswith("\n"):
                # The runtime writes `time stream tag text`.
                self._steps[uid] += parse(line.split(" ", 3)[3])
            file.seek(file.tell() - len(line.encode()))
            if not is_there:
                file.close()
                del self._files[path]


def pods_with_engines() -> set[str]:
    """UIDs of the pods in which an engine's process lives."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"/engine/engine.py" in (process / "cmdline").read_bytes():
                found.update(_POD.findall((process / "cgroup").read_text()))
        except OSError:
            continue  # it ended while we looked
    return found
