"""Whom PodDisruptionBudgets protect, as far as refused evictions have told: budgets may not be read. No I/O.

A pod of several budgets, which is anybody's to make, is never evicted, and must not keep others from leaving in its
place.
"""

from collections.abc import Set

from arbiter.ids import PodUid

PROTECTED_FOR = 30.0
"""Seconds after which a pod whose eviction was refused may be asked for again."""


class Protected:
    """Pods in whose place others are looked for. Times are a steady clock's (s)."""

    def __init__(self) -> None:
        self._until: dict[PodUid, float] = {}

    def note(self, pod: PodUid, *, now: float) -> None:
        """Its eviction has just been refused."""
        self._until[pod] = now + PROTECTED_FOR

    def at(self, now: float) -> Set[PodUid]:
        """Those that need not be asked for again yet."""
        self._until = {pod: until for pod, until in self._until.items() if until > now}
        return self._until.keys()

    def forget_everything(self) -> None:
        """Nobody asked for a while: the budgets may be others."""
        self._until.clear()
