"""Which fragment has a copy in which tier, who holds it, and which copy goes next; bytes are accounted for exactly.

The cache's decisions, pure and synchronous: no I/O, no clock, no lock (its caller has one). Imports the standard
library only.

A fragment may have a copy in several tiers: what came up from a lower tier stays there too until that tier needs the
room, so that giving the upper copy up costs nothing. A copy is first reserved (its bytes count from there on), then
resident, then leaving (its bytes count until they are really gone).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from arbiter.cache.errors import FragmentInUseError, FragmentTooLargeError, TierFullError, UnknownFragmentError
from arbiter.cache.fragment import CacheTier, Fragment, FragmentId
from arbiter.cache.order import EvictionOrder
from arbiter.cache.stats import TierStats
from arbiter.workload import WorkloadType


@dataclass(frozen=True, slots=True, kw_only=True)
class TierLimits:
    """One tier: its capacity in bytes, and whether bytes can be read back out of it or it only accounts for them."""

    capacity: int
    holds_bytes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A copy that has to leave its tier; `lower` are the tiers to try it in, none if a lower copy is there already."""

    fragment: Fragment
    tier: CacheTier
    lower: tuple[CacheTier, ...]


class _State(Enum):
    RESERVED = auto()
    RESIDENT = auto()
    LEAVING = auto()


@dataclass(slots=True)
class _Copy:
    state: _State = _State.RESERVED
    leases: int = 0


@dataclass(slots=True)
class _Entry:
    fragment: Fragment
    user: bool | None = None
    """Whether the LLM system is the one that uses it; None while nobody has said."""
    shared: bool = False
    copies: dict[CacheTier, _Copy] = field(default_factory=dict)


@dataclass(slots=True)
class _Tier:
    limits: TierLimits
    order: EvictionOrder
    used: int = 0
    pinned: int = 0
    """Bytes of copies that cannot leave now: leased, or on their way in or out."""
    hits: int = 0
    evictions: int = 0
    drops: int = 0


class CacheIndex:
    """The index over these tiers, from the highest to the lowest."""

    def __init__(self, tiers: Mapping[CacheTier, TierLimits]) -> None:
        self.tiers = tuple(tier for tier in CacheTier if tier in tiers)
        self.misses = 0
        self._tiers = {
            tier: _Tier(limits=tiers[tier], order=EvictionOrder(capacity=tiers[tier].capacity)) for tier in self.tiers
        }
        self._entries: dict[FragmentId, _Entry] = {}

    # Questions

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[FragmentId]:
        return iter(tuple(self._entries))

    def fragment(self, fragment: FragmentId) -> Fragment | None:
        """What is known by this id."""
        entry = self._entries.get(fragment)
        return entry.fragment if entry else None

    def copies(self, fragment: FragmentId) -> tuple[CacheTier, ...]:
        """The tiers that hold it whole, from the highest."""
        entry = self._entries.get(fragment)
        if entry is None:
            return ()
        return tuple(tier for tier in self.tiers if _is_resident(entry.copies.get(tier)))

    def is_busy(self, fragment: FragmentId) -> bool:
        """Whether a reader holds any of its copies, or one is on its way in or out."""
        entry = self._entries.get(fragment)
        return entry is not None and not all(map(_is_idle, entry.copies.values()))

    def is_coming(self, fragment: FragmentId, tier: CacheTier) -> bool:
        """Whether somebody is bringing it into this tier."""
        entry = self._entries.get(fragment)
        copy = entry.copies.get(tier) if entry else None
        return copy is not None and copy.state is _State.RESERVED

    def is_leased(self, fragment: FragmentId, tier: CacheTier) -> bool:
        """Whether a reader holds this copy."""
        return self._entries[fragment].copies[tier].leases > 0

    def victims(self, tier: CacheTier) -> Iterator[FragmentId]:
        """What would leave this tier, in that order."""
        return (
            fragment
            for fragment in self._tiers[tier].order
            if all(copy.state is _State.RESIDENT for copy in self._entries[fragment].copies.values())
            and not self._entries[fragment].copies[tier].leases
        )

    def stats(self) -> dict[CacheTier, TierStats]:
        """The figures of every tier."""
        return {
            name: TierStats(
                capacity=tier.limits.capacity,
                used=tier.used,
                fragments=len(tier.order),
                hits=tier.hits,
                evictions=tier.evictions,
                drops=tier.drops,
            )
            for name, tier in self._tiers.items()
        }

    def room(self, tier: CacheTier) -> int:
        """Bytes that are free without anybody leaving."""
        return self._tiers[tier].limits.capacity - self._tiers[tier].used

    # Uses

    def access(self, fragment: FragmentId, workload_type: WorkloadType | None) -> CacheTier | None:
        """Count a hit for the highest tier that has it, or a miss; its copies become the most recently used."""
        entry = self._entries.get(fragment)
        highest = None
        if entry is not None:
            self.note_user(fragment, workload_type)
            for tier, state in self._tiers.items():
                if _is_resident(entry.copies.get(tier)):
                    state.order.touch(fragment)
                    highest = highest or tier
        if highest is None:
            self.misses += 1
        else:
            self._tiers[highest].hits += 1
        return highest

    def note_user(self, fragment: FragmentId, workload_type: WorkloadType | None) -> None:
        """A workload of this type uses it; the second system that does makes it shared."""
        if workload_type is None:
            return
        entry = self._entries[fragment]
        if entry.user is None:
            entry.user = workload_type.is_llm
        elif entry.user is not workload_type.is_llm:
            self.mark_shared(fragment)

    def mark_shared(self, fragment: FragmentId) -> None:
        """Both systems use it.

        Raises:
            UnknownFragmentError: no tier has it.
        """
        entry = self._entry(fragment)
        if not entry.shared:
            entry.shared = True
            for tier, copy in entry.copies.items():
                if copy.state is _State.RESIDENT:
                    self._tiers[tier].order.share(fragment)

    def lease(self, fragment: FragmentId, tier: CacheTier) -> None:
        """One more reader of this resident copy: it stays until as many `release` calls came."""
        entry = self._entries[fragment]
        copy = entry.copies[tier]
        if copy.leases == 0:
            self._tiers[tier].pinned += entry.fragment.size
        copy.leases += 1

    def release(self, fragment: FragmentId, tier: CacheTier) -> None:
        """One reader less."""
        entry = self._entries[fragment]
        copy = entry.copies[tier]
        copy.leases -= 1
        if copy.leases == 0:
            self._tiers[tier].pinned -= entry.fragment.size

    # Copies come

    def next_victim(self, tier: CacheTier, size: int) -> Victim | None:
        """The copy that has to leave next for `size` bytes to fit; None when they do.

        Raises:
            FragmentTooLargeError: they never will.
            TierFullError: they would not even if everything left that may.
        """
        state = self._tiers[tier]
        capacity = state.limits.capacity
        if size > capacity:
            raise FragmentTooLargeError(f"{size} bytes do not fit in the {tier} tier, which has {capacity} in all.")
        if size <= capacity - state.used:
            return None
        victim = next(self.victims(tier), None)
        if victim is None or size > capacity - state.pinned:
            raise TierFullError(
                f"the {tier} tier has no room for {size} bytes: {state.pinned} of its {capacity} are held by readers "
                "or on their way."
            )
        return self.victim(victim, tier)

    def victim(self, fragment: FragmentId, tier: CacheTier) -> Victim:
        """This copy as one that has to leave."""
        entry = self._entries[fragment]
        below = self.tiers[self.tiers.index(tier) + 1 :]
        lower: tuple[CacheTier, ...] = ()
        if not any(_is_resident(entry.copies.get(each)) for each in below):
            readable = self._tiers[tier].limits.holds_bytes
            lower = tuple(each for each in below if readable or not self._tiers[each].limits.holds_bytes)
        return Victim(fragment=entry.fragment, tier=tier, lower=lower)

    def reserve(self, fragment: Fragment, tier: CacheTier) -> None:
        """Count its bytes in the tier, whose room `next_victim` has confirmed; then `commit` or `abort`."""
        entry = self._entries.setdefault(fragment.id, _Entry(fragment))
        entry.copies[tier] = _Copy()
        self._tiers[tier].used += fragment.size
        self._tiers[tier].pinned += fragment.size

    def commit(self, fragment: FragmentId, tier: CacheTier) -> None:
        """The reserved copy is whole."""
        entry = self._entries[fragment]
        entry.copies[tier].state = _State.RESIDENT
        self._tiers[tier].pinned -= entry.fragment.size
        self._tiers[tier].order.add(fragment, size=entry.fragment.size, shared=entry.shared)

    def abort(self, fragment: FragmentId, tier: CacheTier) -> None:
        """The reserved copy did not come about."""
        self._forget(fragment, tier)

    # Copies go

    def start_leaving(self, fragment: FragmentId, tier: CacheTier) -> None:
        """Nobody can take a lease on this copy from here on; then `finish_leaving`, or `stay`.

        Raises:
            FragmentInUseError: a reader holds it.
        """
        entry = self._entries[fragment]
        copy = entry.copies[tier]
        if not _is_idle(copy):
            raise FragmentInUseError(f"fragment {fragment} is held in the {tier} tier by {copy.leases} readers.")
        copy.state = _State.LEAVING
        self._tiers[tier].order.discard(fragment)
        self._tiers[tier].pinned += entry.fragment.size

    def stay(self, fragment: FragmentId, tier: CacheTier) -> None:
        """It could not leave after all."""
        self.commit(fragment, tier)

    def finish_leaving(self, fragment: FragmentId, tier: CacheTier) -> None:
        """Its bytes are gone."""
        self._forget(fragment, tier)

    def count_eviction(self, victim: Victim) -> None:
        """This copy has left for room."""
        self._tiers[victim.tier].evictions += 1
        if not self.copies(victim.fragment.id):
            self._tiers[victim.tier].drops += 1

    def _forget(self, fragment: FragmentId, tier: CacheTier) -> None:
        entry = self._entries[fragment]
        del entry.copies[tier]
        self._tiers[tier].used -= entry.fragment.size
        self._tiers[tier].pinned -= entry.fragment.size
        if not entry.copies:
            del self._entries[fragment]

    def _entry(self, fragment: FragmentId) -> _Entry:
        entry = self._entries.get(fragment)
        if entry is None:
            raise UnknownFragmentError(f"no tier holds fragment {fragment}.")
        return entry


def _is_resident(copy: _Copy | None) -> bool:
    return copy is not None and copy.state is _State.RESIDENT


def _is_idle(copy: _Copy) -> bool:
    return copy.state is _State.RESIDENT and copy.leases == 0
