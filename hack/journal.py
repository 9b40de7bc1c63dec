"""What containers say they were told and did, and how many bytes they might use together at any instant.

The simulated engine prints the lines (`hack/engine/README.md`). This is an independent account: it shares no code with
the engines that make the promises. Imports the standard library only.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_LINE = re.compile(
    r"^journal (?P<time>\d+\.\d{6}) (?P<kind>\w+)"
    r"(?: revision=(?P<revision>\d+) quality=(?P<quality>[\d.]+) vramBytes=(?P<vram>\d+) gpus=(?P<gpus>\S+))?$",
    re.MULTILINE,
)


class StepKind(StrEnum):
    """What happened in the container."""

    STARTED = "started"
    TOLD = "told"
    APPLIED = "applied"
    ACKNOWLEDGED = "acknowledged"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of a container's journal: seconds since the epoch, and the grant that it is about (bytes per GPU)."""

    time: float
    kind: StepKind
    revision: int = 0
    quality: float = 0.0
    vram: int = 0
    gpus: tuple[str, ...] = ()


def parse(log: str) -> list[Step]:
    """The steps in a container's log, in its order."""
    return [
        Step(
            time=float(line["time"]),
            kind=StepKind(line["kind"]),
            revision=int(line["revision"] or 0),
            quality=float(line["quality"] or 0),
            vram=int(line["vram"] or 0),
            gpus=tuple(filter(None, (line["gpus"] or "").split(","))),
        )
        for line in _LINE.finditer(log)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The instant of the most use: bytes in all, seconds since the epoch, and the bytes of each container."""

    vram: int = 0
    time: float = 0.0
    holders: Mapping[str, int] = field(default_factory=dict)


def peak_use(journals: Mapping[str, Iterable[Step]]) -> Peak:
    """The most bytes that these containers, all on one GPU, might use at one instant."""
    peak = Peak()
    for time, may_use in use_over_time(journals):
        if (now := sum(may_use.values())) > peak.vram:
            peak = Peak(vram=now, time=time, holders=dict(may_use))
    return peak


def use_over_time(journals: Mapping[str, Iterable[Step]]) -> Iterator[tuple[float, Mapping[str, int]]]:
    """The bytes that each container might use after each step of any of them, in the order of time.

    A container may use what it was told from the moment it reads it, and what it used before until it has applied
    the new size. A container that starts has nothing yet, whatever its process before had.
    """
    steps = sorted(
        ((step, name) for name, journal in journals.items() for step in journal), key=lambda entry: entry[0].time
    )
    may_use: dict[str, int] = {}
    for step, name in steps:
        if step.kind is StepKind.TOLD:
            may_use[name] = max(may_use.get(name, 0), step.vram)
        elif step.kind is StepKind.APPLIED:
            may_use[name] = step.vram
        elif step.kind in (StepKind.STARTED, StepKind.RELEASED):
            may_use.pop(name, None)
        yield step.time, may_use
