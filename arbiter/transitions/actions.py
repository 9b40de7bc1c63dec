"""What the transition engine asks its shell to do, and what it reports about each grant.

An engine's answer is carried out in order, each action finished before the next; a shell that fails at one must stop
and be rebuilt from the saved records. Frozen data only; imports the core's data types and the standard library.
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from arbiter.ids import GpuUuid, PodUid
from arbiter.transitions.record import Record


class GrantReason(StrEnum):
    """Why a container has the size that it has."""

    TARGET = "as decided"
    NO_TARGET = "no target has been decided yet"
    SIZED_ONCE = "sized once, at its start"
    GROWS_LATER = "more follows when it is free"
    SHRINKS_LATER = "less follows when its neighbours have started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a container is told: quality and bytes per GPU that it may use now, and the quality it is going to.

    The revision rises with every change of quality or bytes; `target` and `reason` may change within one.
    """

    revision: int
    quality: Fraction
    vram: int
    target: Fraction
    reason: GrantReason


@dataclass(frozen=True, slots=True)
class Save:
    """Write the record durably (replacing the one of the same UID)."""

    record: Record


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete the record, if there is one."""

    uid: PodUid


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell the container. Publishing the same again is harmless and happens after a restart of the engine."""

    uid: PodUid
    grant: Grant


@dataclass(frozen=True, slots=True)
class Gated:
    """The requested start has this number and waits; `Release` or `Refuse` follows."""

    uid: PodUid
    start: int


@dataclass(frozen=True, slots=True)
class Release:
    """Let the container start: its grant is published."""

    uid: PodUid
    start: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse the start with one sentence; the kubelet asks again."""

    uid: PodUid
    start: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Measure:
    """Measure what the container uses and answer with `Measured`."""

    uid: PodUid


@dataclass(frozen=True, slots=True)
class ShrinkOverdue:
    """The container has not given back `excess` bytes per GPU within its grace. A notice: nothing has to be done."""

    uid: PodUid
    excess: int


Action = Save | Forget | Publish | Gated | Release | Refuse | Measure | ShrinkOverdue


class GrantState(StrEnum):
    """Where a container stands, in the words of GpuNode."""

    GATED = "Gated"
    STARTING = "Starting"
    MOVABLE = "Movable"
    HELD = "Held"
    OVERDUE = "Overdue"
    LATE = "Late"
    DOWN = "Down"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantStatus:
    """One grant as GpuNode shows it. Bytes are per GPU.

    `granted` is what the container was told last (0: nothing), `held` the most that it may hold, `applied` what it
    acknowledged last, `acknowledged` at which revision (0: none in this start), `measured` what it was seen to use.
    `start` is the last start's number, the one that `Exited` needs. `gone`: its pod is in no list any more, it is
    kept until `Ended`. `waiting`: it has not started and its floor is not free.
    """

    uid: PodUid
    name: str
    gpus: tuple[GpuUuid, ...]
    start: int
    revision: int
    quality: Fraction | None
    granted: int
    held: int
    acknowledged: int
    applied: int | None
    measured: int | None
    movable: bool
    state: GrantState
    waiting: bool
    gone: bool
