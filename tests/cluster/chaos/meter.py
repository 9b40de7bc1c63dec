"""The driver's part: what each container uses, by its own journal, and how the nodes' simulated GPUs fare."""

import threading
from types import TracebackType
from typing import Any, Self

import yaml

from hack.cluster.cluster import Cluster
from hack.journal import StepKind, use_over_time
from tests.cluster.chronicle import Chronicle

_SECONDS = 0.25


class Meter:
    """`with Meter(cluster, chronicle):` writes the nodes' files, which are as before at the end."""

    def __init__(self, cluster: Cluster, chronicle: Chronicle) -> None:
        self._chronicle = chronicle
        self._files = {node.name: node.gpus_file for node in cluster.nodes}
        self._before = {name: path.read_text() for name, path in self._files.items()}
        self._contents = {name: yaml.safe_load(text) for name, text in self._before.items()}
        self._lock = threading.Lock()
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
        for name, text in self._before.items():
            self._write(name, text)

    def total(self, gpu: str) -> int:
        """The bytes of a GPU, called ``gpu-1/0``, its driver's included."""
        total: int = self._entry(gpu)["total"]
        return total

    def change(self, gpu: str, **changes: int | bool | str | None) -> None:
        """From now on the driver says this of a GPU."""
        with self._lock:
            self._entry(gpu).update(changes)

    def _entry(self, gpu: str) -> dict[str, Any]:
        node, _, index = gpu.partition("/")
        entry: dict[str, Any] = self._contents[node]["gpus"][int(index)]
        return entry

    def _measure(self) -> None:
        told: dict[str, str] = {}
        while not self._stop.wait(_SECONDS):
            use = [{"pod": uid, "vram": vram} for uid, vram in sorted(self._use().items())]
            with self._lock:
                texts = {name: yaml.safe_dump({**content, "use": use}) for name, content in self._contents.items()}
            for name in [name for name, text in texts.items() if told.get(name) != text]:
                told[name] = texts[name]
                self._write(name, texts[name])

    def _write(self, name: str, text: str) -> None:
        unfinished = self._files[name].with_suffix(".unfinished")
        unfinished.write_text(text)
        unfinished.rename(self._files[name])

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
