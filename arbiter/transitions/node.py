"""The GPUs of a node with their containers: what each may hold, what is reserved, and what is free for whom.

Imports the package's containers and the core's data types.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.transitions.container import Container, Presence


@dataclass(slots=True)
class Node:
    """The engine's state. Bytes are per GPU; a GPU that is not in `usable` has none. `start_wait` is in seconds."""

    usable: Mapping[GpuUuid, int]
    names: Mapping[GpuUuid, str]
    policy: Policy
    started_at: float
    start_wait: float
    containers: dict[PodUid, Container] = field(default_factory=dict)
    is_listed: bool = False
    deadline: float | None = None

    def wake(self, at: float) -> None:
        """Ask for a tick at that time."""
        self.deadline = at if self.deadline is None else min(self.deadline, at)

    def neighbours(self, gpu: GpuUuid, container: Container) -> Iterator[Container]:
        """The other containers of a GPU."""
        return (
            other
            for other in self.containers.values()
            if gpu in other.record.gpus and other.record.uid != container.record.uid
        )

    def room(self, container: Container) -> int:
        """The size per GPU up to which it may grow: what others neither may hold nor are promised."""
        return min(
            self.usable.get(gpu, 0) - sum(other.reserve for other in self.neighbours(gpu, container))
            for gpu in container.record.gpus
        )

    def free_floor(self, gpu: GpuUuid, container: Container) -> int:
        """Bytes of a GPU that a start may take: what others may not hold and gated starts before it do not need."""
        return self.usable.get(gpu, 0) - sum(
            max(other.record.may_hold, other.floor if other.is_gated and precedes(other, container) else 0)
            for other in self.neighbours(gpu, container)
        )

    def short_of(self, container: Container) -> GpuUuid | None:
        """The first of its GPUs on which its floor is not free."""
        gpus = container.record.gpus
        return next((gpu for gpu in gpus if self.free_floor(gpu, container) < container.floor), None)

    def is_waiting(self, container: Container) -> bool:
        """Whether it has not started and its floor is not free."""
        is_waiting = container.presence is Presence.LIVE and not container.is_released
        return is_waiting and self.short_of(container) is not None

    def is_still(self, container: Container, *, now: float) -> bool:
        """Whether a neighbour starts, so that nothing on its GPUs may move."""
        window = self.policy.start_window
        return window > 0 and any(
            other.is_starting(now=now, window=window)
            for gpu in container.record.gpus
            for other in self.neighbours(gpu, container)
        )

    def needs_bytes(self, gpu: GpuUuid) -> bool:
        """Whether a floor waits on this GPU, or its containers may hold more than it has."""
        here = [container for container in self.containers.values() if gpu in container.record.gpus]
        may_hold = sum(container.record.may_hold for container in here)
        return may_hold > self.usable.get(gpu, 0) or any(self.is_waiting(container) for container in here)


def precedes(one: Container, other: Container) -> bool:
    """Whether a gated start is served before another."""
    return rank(one) < rank(other)


def rank(container: Container) -> tuple[int, float, PodUid]:
    """The order in which containers are served: higher priority, then bound earlier, then by UID."""
    pod = container.pod
    if pod is None:
        return 0, float("inf"), container.record.uid
    return -pod.demand.priority.level, pod.bound_at, pod.uid
