"""What a claim finds, and what it lacks there. Pure; imports the core only."""

from dataclasses import dataclass

from arbiter.local.claim import Claim
from arbiter.local.errors import InsufficientMemory
from arbiter.workload import MemoryPressure


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a claim finds; sizes in bytes.

    `promised` are the floors of those with room, and what they hold who do not give back; `held` is what they may hold
    now, lent bytes included; `ahead` are the floors of those who wait before it. `is_shared`: somebody there is not
    of priority Background.
    """

    capacity: int
    promised: int
    held: int
    ahead: int = 0
    is_shared: bool = False

    @property
    def pressure(self) -> MemoryPressure:
        """The level of what is promised."""
        return MemoryPressure.at(self.utilisation)

    @property
    def utilisation(self) -> float:
        """Promised share of the capacity, 0..1 and above where somebody does not give back; without any capacity 1."""
        return self.promised / self.capacity if self.capacity else 1.0

    @property
    def pauses_background(self) -> bool:
        """Whether Background yields: memory is tight, and there is somebody to yield to."""
        return self.is_shared and self.pressure.pauses_background

    def available(self, claim: Claim) -> int:
        """Bytes that the claim can count on; for one that does not wait, those that nobody has to give back first."""
        taken = self.promised if claim.waits else max(self.promised, self.held)
        return self.capacity - taken - self.ahead


def shortage(claim: Claim, room: Room) -> InsufficientMemory | None:
    """Why the claim cannot have room now; None where it can."""
    available, needed = room.available(claim), claim.demand.floor
    reason = None
    if needed > available:
        reason = "requests that came before it or have a higher priority wait too" if room.ahead else ""
    elif room.pressure.blocks_new_work:
        reason = f"pressure is {room.pressure} ({room.utilisation:.0%} are promised), and nothing new starts"
    elif claim.is_background and room.pauses_background:
        reason = f"pressure is {room.pressure} ({room.utilisation:.0%} are promised), and Background work pauses"
    return None if reason is None else InsufficientMemory(requested=needed, available=available, reason=reason)
