"""What this process has promised to pods that are not bound yet. Imports the core's identifiers and the API models."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter_kube.api.occupancy import Standing
from arbiter_kube.api.pods import GpuPod

SOFT_HOLD = 2.0
"""Seconds for which room is held between the choice of a node and the bind.

What comes in between mostly takes milliseconds. Where it is a volume that is made only now (WaitForFirstConsumer), the
room is free again before it is there: the bind then takes what is left on the node, or is refused and the pod is
scheduled anew.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The GPUs of a node that a pod shall have."""

    node: NodeName
    gpus: tuple[GpuUuid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Room for a pod; `until` (seconds by the extender's own clock) is None once its bind is in flight."""

    pod: GpuPod
    assignment: Assignment
    until: float | None

    @property
    def is_assumed(self) -> bool:
        """Whether only the API server's word ends it."""
        return self.until is None

    @property
    def standing(self) -> Standing:
        """How firm it is."""
        return Standing.ASSUMED if self.is_assumed else Standing.SOFT_HELD

    def is_over(self, now: float) -> bool:
        """Whether a soft hold has run out."""
        return self.until is not None and now >= self.until


class Deadlines:
    """When something about a pod ends. What ended before that, or lasts longer by now, is for the caller to see."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, PodUid]] = []

    def add(self, at: float, uid: PodUid) -> None:
        """It ends then; the caller has one clock for all."""
        heapq.heappush(self._heap, (at, uid))

    def due(self, now: float) -> Iterator[PodUid]:
        """Takes out those that are over."""
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[1]
