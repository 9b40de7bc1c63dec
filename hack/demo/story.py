"""The story of the demo: chat alone, posters joins, the operator dies, a pod that cannot fit, posters ends.

Imports the observer and the local cluster.
"""

import os
import time
from pathlib import Path

from hack import journal
from hack.cluster.cluster import Cluster
from hack.journal import Step, StepKind
from hack.observe import FileView, GpuView, NotSeenError, Observer, PodView

MIB, GIB = 1 << 20, 1 << 30

_BAR_WIDTH = 24
_SETTLED_SECONDS = 8.0
"""How long the new operator is watched: the lease of the one before it lasts for 4 s, and only then does it lead."""
_OPERATOR = ("-n", "arbiter-system", "-l", "app.kubernetes.io/component=operator")
_MANIFESTS = ("chat", "posters", "render")


class Story:
    """Runs the steps on a cluster that is up and prints each line as it happens."""

    def __init__(self, cluster: Cluster, examples: Path) -> None:
        self._cluster = cluster
        self._examples = examples
        self._observer = Observer(cluster)
        self._journals: dict[str, list[Step]] = {}

    def clear(self) -> None:
        """Remove what an earlier demo left."""
        files = [argument for name in _MANIFESTS for argument in ("-f", str(self._examples / f"{name}.yaml"))]
        self._cluster.kubectl("delete", *files, "--ignore-not-found", "--timeout=60s")

    def run(self) -> str:
        """All steps; the name of the pod that is left running.

        Raises:
            NotSeenError: something did not happen.
        """
        chat = self._chat_alone()
        posters = self._posters_joins(chat)
        self._operator_dies((chat, posters))
        self._render_cannot_fit()
        self._posters_ends(chat, posters)
        return chat.name

    def _chat_alone(self) -> PodView:
        _title("1  chat alone: LlmInference, High, full 10Gi, floor 4Gi")
        started = self._apply("chat")
        chat = self._running("team-a", "chat")
        file = self._agreed(chat, quality=1.0, allocation="chat")
        _line(time.time() - started, f"{chat.name} Running    {_figures(file)}   revision {file.revision}")
        self._bar()
        return chat

    def _posters_joins(self, chat: PodView) -> PodView:
        _title("2  posters arrives: ImageGeneration, Background, full 6Gi, floor 1843Mi")
        self._apply("posters")
        pod = self._observer.wait("posters to be bound", lambda: self._bound("posters"), component="arbiter-scheduler")
        bound = time.time()
        gpu = self._gpu()
        _line(0.0, f"{pod.name}  bound to {gpu.label}; {gpu.free // MIB}Mi free")
        posters = self._running("team-b", "posters")
        has_chat = self._agreed(chat, quality=0.904, allocation="chat")
        has_posters = self._agreed(posters, quality=0.493, allocation="posters")
        for at, text in sorted(self._timeline(chat, since=bound) + self._timeline(posters, since=bound)):
            _line(max(0.0, at - bound), text)
        _line(time.time() - bound, f"file, annotation and status agree: chat {_figures(has_chat)}")
        _line(time.time() - bound, f"file, annotation and status agree: posters {_figures(has_posters)}")
        self._bar()
        twice = max(0, self._peak((chat, posters)) - gpu.usable)
        print(f"   bytes promised twice, at any instant: {twice}")
        if twice:
            raise NotSeenError("bytes were promised twice", log=self._cluster.log("device-plugin/gpu-1"))
        return posters

    def _operator_dies(self, pods: tuple[PodView, ...]) -> None:
        _title("3  kill the operator")
        before = self._versions(pods)
        started = time.time()
        self._kubectl("delete", "pod", *_OPERATOR, "--grace-period=0", "--force")
        self._observer.wait("the operator to be ready", lambda: self._ready("operator"), component="operator")
        ready = time.time() - started
        time.sleep(_SETTLED_SECONDS)
        written = sum(version != before[name] for name, version in self._versions(pods).items())
        _line(
            ready, f"new operator ready; targets recomputed; pods patched in the next {_SETTLED_SECONDS:g}s: {written}"
        )
        if written:
            raise NotSeenError("nothing changed, yet pods were patched", log=self._cluster.log("operator"))

    def _render_cannot_fit(self) -> None:
        _title("4  a pod that cannot fit: VideoGeneration, Low, floor 10Gi")
        started = self._apply("render")
        message = self._observer.wait(
            "render-0 to be told what it waits for",
            lambda: self._observer.event("team-c", "render-0", "VramWaiting"),
            component="operator",
        )
        _line(time.time() - started, f"render-0 Waiting: {message}")

    def _posters_ends(self, chat: PodView, posters: PodView) -> None:
        _title("5  posters ends")
        had = self._observer.gpus()[0].granted.get(posters.name, 0)
        self._observer.wait(
            "posters to end", lambda: self._phase(posters, "Succeeded"), component="kubelet/gpu-1", seconds=60.0
        )
        ended = time.time()
        _line(0.0, f"{posters.name}  Succeeded; held {had // MIB}Mi")
        self._agreed(chat, quality=1.0, allocation="chat")
        for at, text in self._timeline(chat, since=ended - 1.0):
            _line(max(0.0, at - ended), text)
        self._bar()

    def _apply(self, name: str) -> float:
        path = self._examples / f"{name}.yaml"
        started = time.time()
        self._kubectl("apply", "-f", os.path.relpath(path))
        return started

    def _kubectl(self, *arguments: str) -> None:
        """Shows the command as a person would type it, and runs it."""
        print(f"   $ kubectl {' '.join(arguments)}", flush=True)
        self._cluster.kubectl(*arguments)

    def _running(self, namespace: str, prefix: str) -> PodView:
        def running() -> PodView | None:
            pod = self._observer.pod(namespace, prefix)
            return pod if pod is not None and pod.phase == "Running" else None

        return self._observer.wait(f"{prefix} to run", running, component="kubelet/gpu-1")

    def _bound(self, prefix: str) -> PodView | None:
        pod = self._observer.pod("team-b", prefix)
        return pod if pod is not None and pod.node else None

    def _phase(self, pod: PodView, phase: str) -> PodView | None:
        now = self._observer.pod(pod.namespace, pod.name)
        return now if now is not None and now.phase == phase else None

    def _ready(self, component: str) -> bool | None:
        return True if self._cluster.ready(component) else None

    def _versions(self, pods: tuple[PodView, ...]) -> dict[str, str]:
        now = (self._observer.pod(pod.namespace, pod.name) for pod in pods)
        return {pod.name: pod.version for pod in now if pod is not None and pod.phase == "Running"}

    def _agreed(self, pod: PodView, *, quality: float, allocation: str) -> FileView:
        """The container's file, once it, the pod's annotation and the allocation's status say this quality."""

        def agreed() -> FileView | None:
            file = self._observer.file(pod)
            now = self._observer.pod(pod.namespace, pod.name)
            status = self._observer.allocation_quality(pod.namespace, allocation)
            told = {file and file.quality, now and now.quality, status}
            return file if told == {quality} else None

        return self._observer.wait(
            f"file, annotation and status of {pod.name} to say {quality:.3f}", agreed, component="device-plugin/gpu-1"
        )

    def _timeline(self, pod: PodView, *, since: float) -> list[tuple[float, str]]:
        """What the container was told and acknowledged since then, in its own words."""
        steps = self._observer.journal(pod)
        self._journals[pod.name] = steps
        name = pod.name.split("-")[0]
        lines = []
        for step in steps:
            if step.time < since:
                continue
            if step.kind is StepKind.TOLD:
                was = next((s for s in reversed(steps) if s.time < step.time and s.kind is StepKind.TOLD), None)
                change = (
                    f"{was.quality:.3f} -> {step.quality:.3f}   {was.vram // MIB}Mi -> "
                    if was
                    else f"{step.quality:.3f}   "
                )
                lines.append((step.time, f"{name:8s} told {change}{step.vram // MIB}Mi   revision {step.revision}"))
            elif step.kind is StepKind.ACKNOWLEDGED:
                lines.append((step.time, f"{name:8s} applied and acknowledged revision {step.revision}"))
        return lines

    def _peak(self, pods: tuple[PodView, ...]) -> int:
        return journal.peak_use({pod.name: self._observer.journal(pod) for pod in pods}).vram

    def _gpu(self) -> GpuView:
        return self._observer.gpus()[0]

    def _bar(self) -> None:
        gpu = self._gpu()
        cells = "".join(
            pod[0].upper() * round(granted / gpu.usable * _BAR_WIDTH) for pod, granted in sorted(gpu.granted.items())
        )
        granted = sum(gpu.granted.values())
        print(f"   {gpu.label} [{cells[:_BAR_WIDTH]:.<{_BAR_WIDTH}}] {granted / GIB:.2f} of {gpu.usable / GIB:.2f} GiB")


def _title(text: str) -> None:
    print(f"\n{text}", flush=True)


def _line(seconds: float, text: str) -> None:
    print(f"  [{seconds:5.2f}s] {text}", flush=True)


def _figures(file: FileView) -> str:
    return f"quality {file.quality:.3f}   {file.vram // MIB}Mi"
