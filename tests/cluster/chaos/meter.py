"""The driver's part: measures what each container uses, by its own journal, and tells the nodes' simulated GPUs."""

import threading
from types import TracebackType
from typing import Any, Self

import yaml

from hack.cluster.cluster import Cluster
from hack.journal import StepKind, use_over_time
from tests.cluster.chronicle import Chronicle

_SECONDS = 0.25


class Meter:
    """`with Meter(cluster, chronicle):` writes the nodes' files until the end."""

    def __init__(self, cluster: Cluster, chronicle: Chronicle) -> None:
        self._chronicle = chronicle
        self._files = {node.gpus_file: yaml.safe_load(node.gpus_file.read_text()) for node in cluster.nodes}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="meter")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _measure(self) -> None:
        told: list[dict[str, Any]] | None = None
        while not self._stop.wait(_SECONDS):
            use = [{"pod": uid, "vram": vram} for uid, vram in sorted(self._use().items())]
            if use == told:
                continue
            told = use
            for path, content in self._files.items():
                unfinished = path.with_suffix(".unfinished")
                unfinished.write_text(yaml.safe_dump({**content, "use": use}))
                unfinished.rename(path)

    def _use(self) -> dict[str, int]:
        running = {
            uid: steps
            for uid, steps in self._chronicle.journals().items()
            if steps and steps[-1].kind is not StepKind.RELEASED
        }
        use: dict[str, int] = {}
        for _, now in use_over_time(running):
            use = dict(now)
        return use
