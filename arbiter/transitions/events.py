"""What the transition engine is told: pods, starts and ends of their containers, acknowledgements, measurements, time.

Frozen data only. Imports the core's data types and the standard library. Bytes are per GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the solver wants a container: quality 0..1 and the bytes per GPU that go with it."""

    quality: Fraction
    vram: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PodObserved:
    """A bound pod that is not in a terminal phase, as the watch shows it; sent again whenever any of this changes.

    `name` is what people call it (``namespace/name``). `gpus` are the GPUs that its container really gets; they are
    fixed while a start of it is released. `bound_at` only orders pods. A `target` of None means that none was
    decided. An observation makes a pod live again that an older list had lacked; `terminating` is never taken back.
    """

    uid: PodUid
    name: str
    demand: Demand
    gpus: tuple[GpuUuid, ...]
    bound_at: float
    target: Target | None = None
    ready: bool = False
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class PodsListed:
    """A complete list of the node's pods: what it lacks has vanished. Send each pod's observation before it."""

    uids: frozenset[PodUid]


@dataclass(frozen=True, slots=True)
class PodVanished:
    """The API server has deleted the pod. Its processes may still live: `Ended` says when they do not."""

    uid: PodUid


@dataclass(frozen=True, slots=True)
class StartRequested:
    """A start is asked for (PreStartContainer): the container's processes of every earlier start have ended.

    Answered by `Release` or `Refuse`, at once or after `Gated`, within 25 s. `acknowledged`: who asks takes the size
    with the answer and can resize from then on, so that the release counts as acknowledged.
    """

    uid: PodUid
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class StartAbandoned:
    """Nobody waits for the answer to this gated start any more."""

    uid: PodUid
    start: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The container of that start has ended with all its processes. Notices about other starts are ignored."""

    uid: PodUid
    start: int


@dataclass(frozen=True, slots=True)
class Ended:
    """No process of the pod lives and none will start again.

    True of a pod in a terminal phase, or of one that has vanished and that the node has cleaned up. An empty process
    list is no proof while a released start may still be on its way. Repeat it while a status still shows the pod: a
    crash may have kept the engine from hearing it.
    """

    uid: PodUid


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """The container says that it runs within `vram` bytes per GPU since it read `revision`.

    Answer it (HTTP 200) after the actions that it causes have been carried out.
    """

    uid: PodUid
    revision: int
    vram: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the container used at time `at`, the most on any of its GPUs; None where the node has no way to measure.

    None lets an acknowledgement count on trust: a measurement that failed is not sent.
    """

    uid: PodUid
    vram: int | None
    at: float


@dataclass(frozen=True, slots=True)
class GpusChanged:
    """The usable bytes of every GPU of the node; a GPU that is missing has none."""

    usable: Mapping[GpuUuid, int]


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """Another policy is in force on the node."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; due at `Engine.next_deadline()`, harmless at any other time."""


Event = (
    PodObserved
    | PodsListed
    | PodVanished
    | StartRequested
    | StartAbandoned
    | Exited
    | Ended
    | Acknowledged
    | Measured
    | GpusChanged
    | PolicyChanged
    | Tick
)
