"""How a view is written: lines of columns, each with what it is about and how loud it is. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from arbiter.demand import format_quality
from arbiter.units import format_mib
from arbiter.workload import MemoryPressure
from arbiter_cli.explain.names import Kind, Subject
from arbiter_cli.printing import age, columns, gib
from arbiter_cli.top.view import GpuRow, PodRow, View, WaitingRow, floor_text

_BAR = 10


class Tone(Enum):
    """How a line is shown where there are colours."""

    TITLE = auto()
    HEADING = auto()
    CALM = auto()
    SHARED = auto()
    TIGHT = auto()
    SCARCE = auto()
    PLAIN = auto()
    WAITING = auto()
    ALARM = auto()


_TONES = {
    MemoryPressure.LOW: Tone.CALM,
    MemoryPressure.MODERATE: Tone.SHARED,
    MemoryPressure.HIGH: Tone.TIGHT,
    MemoryPressure.CRITICAL: Tone.SCARCE,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `subject` is what it is about, of this namespace, where that can be explained."""

    text: str
    tone: Tone
    subject: Subject | None = None
    namespace: str = ""


def title(view: View) -> str:
    """``arbiter top  10:42:07   1 node  1 GPU  2 grants  1 waiting``, by the clock of this machine."""
    clock = datetime.fromtimestamp(view.at).astimezone().strftime("%H:%M:%S")
    counts = (_count(view.nodes, "node"), _count(view.gpus, "GPU"), _count(view.grants, "grant"))
    return f"arbiter top  {clock}   {'  '.join(counts)}  {view.waiting} waiting"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def lines(view: View, *, wide: bool = False) -> list[Line]:
    """Everything below the title."""
    if not view.rows and not view.queue:
        empty = (
            "No GPU has a pod of this namespace." if view.nodes else "No node reports GPUs; arbiter doctor says why."
        )
        return [Line(empty, Tone.PLAIN)]
    gpus = columns([_gpu_heading(wide=wide), *(_gpu(row, wide=wide) for row in view.rows)]) if view.rows else [""]
    pods = [(row, pod) for row in view.rows for pod in row.pods]
    table = columns([_pod_heading(wide=wide), *(_pod(pod, view.at, wide=wide) for _, pod in pods)]) if pods else [""]
    written = iter(table[1:])
    found = [Line(gpus[0], Tone.HEADING)] if view.rows else []
    if pods:
        found.append(Line(table[0], Tone.HEADING))
    for row, text in zip(view.rows, gpus[1:], strict=True):
        found.append(Line(text, _gpu_tone(row), Subject(Kind.GPU, row.node, row.index)))
        found += [_pod_line(pod, next(written)) for pod in row.pods]
    return [*found, *_queue(view.queue, view.at)]


def _gpu_tone(row: GpuRow) -> Tone:
    return _TONES[row.pressure] if row.healthy else Tone.ALARM


def _pod_line(pod: PodRow, text: str) -> Line:
    return Line(text, Tone.PLAIN, Subject(Kind.POD, pod.pod), pod.namespace)


def _gpu_heading(*, wide: bool) -> Sequence[str]:
    usual = ("GPU", "MODEL", "USABLE", "FLOORS", "GRANTED", "MEASURED", "PRICE", "PRESSURE", "ENFORCEMENT")
    return (*usual, "MODE", "UUID") if wide else usual


def _gpu(row: GpuRow, *, wide: bool) -> Sequence[str]:
    usual = (
        row.gpu,
        row.model or "-",
        gib(row.usable),
        gib(row.floors),
        gib(row.granted),
        gib(row.measured),
        f"{float(row.price):.3f}",
        row.pressure.value,
        row.enforcement if row.healthy else f"{row.enforcement}  NOT HEALTHY: {row.reason}",
    )
    return (*usual, row.mode, row.uuid) if wide else usual


def _pod_heading(*, wide: bool) -> Sequence[str]:
    usual = ("  POD", "TYPE", "PRIORITY", "QUALITY", "GRANTED", "MEASURED", "CHANGED")
    return (*usual, "STATE", "HELD", "REVISION") if wide else usual


def _pod(pod: PodRow, now: float, *, wide: bool) -> Sequence[str]:
    usual = (
        f"  {pod.namespace}/{pod.pod}",
        pod.type,
        pod.priority,
        _quality(pod),
        "-" if pod.granted is None else format_mib(pod.granted),
        "-" if pod.measured is None else format_mib(pod.measured),
        "-" if pod.changed is None else age(now - pod.changed),
    )
    if not wide:
        return usual
    return (*usual, pod.state, format_mib(pod.held), "-" if pod.revision is None else str(pod.revision))


def _quality(pod: PodRow) -> str:
    """What it may use now as a figure and a bar, and where it goes, or why it does not."""
    if pod.quality is None:
        return pod.state if pod.target is None else f"{pod.state} > {format_quality(pod.target)}"
    full = round(pod.quality * _BAR)
    bar = f"{format_quality(pod.quality)} {'#' * full}{'.' * (_BAR - full)}"
    if pod.target is None or pod.target == pod.quality:
        return bar
    return f"{bar} > {format_quality(pod.target)}"


def _queue(queue: Sequence[WaitingRow], now: float) -> list[Line]:
    if not queue:
        return []
    rows = [
        (
            "WAITING" if number == 0 else "",
            f"{one.namespace}/{one.pod}",
            one.type,
            one.priority,
            f"{floor_text(one)}; {age(now - one.since)}",
        )
        for number, one in enumerate(queue)
    ]
    return [
        Line(text, Tone.WAITING, Subject(Kind.POD, one.pod), one.namespace)
        for one, text in zip(queue, columns(rows), strict=True)
    ]
