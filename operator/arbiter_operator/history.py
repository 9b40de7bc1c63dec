"""What this process remembers of pods, for sentences alone: how long targets took, and what was told already.

No decision reads it, so that a restart changes nothing but what is said. Pure.
"""

from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass, field

from arbiter.ids import PodUid

RETELL_INTERVAL = 60.0
"""Seconds between two events of one reason about one pod, however often what they say changes."""


@dataclass(frozen=True, slots=True)
class _Said:
    message: str
    at: float


@dataclass(slots=True)
class _Memory:
    revision: int = 0
    written_at: float = 0.0
    applied_after: float | None = None
    told: dict[str, _Said] = field(default_factory=dict)


class History:
    """By pod. Times are seconds of a clock that is never set back."""

    def __init__(self) -> None:
        self._memories: dict[PodUid, _Memory] = defaultdict(_Memory)

    def wrote(self, uid: PodUid, *, revision: int, at: float) -> None:
        """A target was written."""
        memory = self._memories[uid]
        memory.revision, memory.written_at, memory.applied_after = revision, at, None

    def applied(self, uid: PodUid, *, revision: int, at: float) -> None:
        """The node says that the target has been applied; the first time counts."""
        memory = self._memories.get(uid)
        if memory is not None and memory.revision == revision and memory.applied_after is None:
            memory.applied_after = max(0.0, at - memory.written_at)

    def applied_after(self, uid: PodUid, *, revision: int) -> float | None:
        """How many seconds the target took; None where this process did not see both ends."""
        memory = self._memories.get(uid)
        return memory.applied_after if memory is not None and memory.revision == revision else None

    def tell_once(self, uid: PodUid, reason: str, *, at: float) -> bool:
        """Whether nothing of this reason has been told of the pod before; from now on it has."""
        return not self.has_told(uid, reason) and self.tell_changed(uid, reason, message="", at=at)

    def tell_changed(self, uid: PodUid, reason: str, *, message: str, at: float) -> bool:
        """Whether this is news of the pod, and the last word of this reason is long enough ago; if so, it is told."""
        told = self._memories[uid].told
        last = told.get(reason)
        if last is not None and (last.message == message or at < last.at + RETELL_INTERVAL):
            return False
        told[reason] = _Said(message, at)
        return True

    def has_told(self, uid: PodUid, reason: str) -> bool:
        """Whether anything of this reason has been told of the pod."""
        return uid in self._memories and reason in self._memories[uid].told

    def keep_only(self, alive: Container[PodUid]) -> None:
        """Forgets the pods that are not among these."""
        for uid in [uid for uid in self._memories if uid not in alive]:
            del self._memories[uid]
