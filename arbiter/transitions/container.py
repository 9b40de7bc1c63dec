"""One container of the node: its durable record, what was observed of its pod, and what the two mean together.

Imports the package's events and records and the core's data types.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto

from arbiter.demand import Demand
from arbiter.policy import Policy
from arbiter.transitions.actions import Grant
from arbiter.transitions.events import PodObserved
from arbiter.transitions.record import Record, Size


class Presence(Enum):
    """What is known of a container's pod."""

    UNKNOWN = auto()
    LIVE = auto()
    TERMINATING = auto()
    VANISHED = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Request:
    """A start that somebody waits for: its number, when it was asked for (s), whether its release acknowledges."""

    start: int
    at: float
    acknowledged: bool


@dataclass(slots=True)
class Container:
    """State of one container. Everything but `record` is rebuilt from observations after a crash.

    `wanted` is the target as a size that the demand allows; None while nobody decided. `published_for` is what
    `published` was made from.
    """

    record: Record
    presence: Presence = Presence.UNKNOWN
    pod: PodObserved | None = None
    wanted: Size | None = None
    seen_at: float = 0.0
    ready: bool = False
    request: Request | None = None
    measured: int | None = None
    acknowledged_at: float = 0.0
    measure_at: float = 0.0
    is_overdue: bool = False
    published: Grant | None = None
    published_for: tuple[object, ...] = ()

    @property
    def demand(self) -> Demand | None:
        """What it asked for; None until its pod was observed."""
        return self.pod.demand if self.pod else None

    @property
    def excess(self) -> int:
        """Bytes per GPU that it was told to give back and may still hold."""
        granted = self.record.granted
        return self.record.may_hold - granted.vram if granted else 0

    @property
    def floor(self) -> int:
        """Bytes per GPU that a live pod is promised whatever happens."""
        return self.pod.demand.floor if self.pod else 0

    @property
    def is_released(self) -> bool:
        """Whether its current start was let go and is not known to have ended."""
        return self.record.released_at is not None

    @property
    def is_gated(self) -> bool:
        """Whether a start of a live pod waits for its release."""
        return self.request is not None and self.presence is Presence.LIVE

    @property
    def reserve(self) -> int:
        """Bytes per GPU that nobody else may grow into."""
        is_bound = self.presence in (Presence.LIVE, Presence.UNKNOWN)
        return max(self.record.may_hold, self.floor) if is_bound else self.record.may_hold

    def may_still_answer(self, *, now: float, window: float) -> bool:
        """Whether it was released at most `window` seconds ago and has not acknowledged yet."""
        released_at = self.record.released_at
        return released_at is not None and not self.record.acknowledged and now < released_at + window

    def is_starting(self, *, now: float, window: float) -> bool:
        """The same, as long as it is not ready either: its neighbours keep still until then."""
        return not self.ready and self.may_still_answer(now=now, window=window)

    def is_resizable(self, policy: Policy) -> bool:
        """Whether its size may change while it runs, once it has acknowledged.

        A demand of one size is no exception: an edit may have left only that size to a container with another.
        """
        demand = self.demand
        return demand is not None and policy.resizes(demand.resize)

    def observe(self, pod: PodObserved) -> None:
        """Take over what the watch shows of its pod."""
        self.pod = pod
        target = pod.target
        self.wanted = Size(*pod.demand.fitting(target.vram, at_most=target.quality)) if target else None

    def take_over_gpus(self) -> None:
        """Take the GPUs of its observation while it is down; what was reserved for it on others ends.

        They change when a kubelet that lost its checkpoint hands out slices a second time.
        """
        if self.pod is not None and not self.is_released and self.pod.gpus != self.record.gpus:
            self.record = replace(self.record.stop(keep=False), gpus=self.pod.gpus)

    def acknowledge(self, *, revision: int, vram: int, now: float) -> None:
        """It runs within `vram` bytes per GPU since it read that revision, which is not below the last one."""
        if revision > self.record.acknowledged:
            # A repetition moves neither, or a container that never stops repeating would outrun every measurement.
            self.acknowledged_at = now
            self.measure_at = now
        self.record = replace(self.record, acknowledged=revision, applied=vram)

    def stop(self, *, keep: bool) -> None:
        """Its last start has ended, if it had one; what it was granted stays reserved where `keep` says so."""
        self.record = self.record.stop(keep=keep)
        self.ready = False
        self.measured = None
