"""What the cache has done so far, as figures. Pure; imports the standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass

from arbiter.cache.fragment import CacheTier


@dataclass(frozen=True, slots=True, kw_only=True)
class TierStats:
    """One tier. `used` and `capacity` in bytes, `used` with what is on its way in or out; the rest are counts.

    `hits`: accesses that this was the highest tier for. `evictions`: copies that left to make room; `drops`: those of
    them after which no tier had the fragment any more.
    """

    capacity: int
    used: int = 0
    fragments: int = 0
    hits: int = 0
    evictions: int = 0
    drops: int = 0

    @property
    def utilisation(self) -> float:
        """`used / capacity`, 0..1; 0 for a tier without capacity."""
        return self.used / self.capacity if self.capacity else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """The whole cache at one instant.

    `fragments` counts each fragment once, however many tiers hold a copy. `misses`: accesses that no tier had the
    fragment for. `downloads` and `downloaded_bytes`: what was fetched whole and right. `damaged`: copies thrown away
    because their bytes were not what their id says.
    """

    tiers: Mapping[CacheTier, TierStats]
    fragments: int = 0
    misses: int = 0
    downloads: int = 0
    downloaded_bytes: int = 0
    damaged: int = 0

    @property
    def hits(self) -> int:
        """Accesses that some tier had the fragment for."""
        return sum(tier.hits for tier in self.tiers.values())

    @property
    def hit_rate(self) -> float:
        """`hits / (hits + misses)`, 0..1; 0 before the first access."""
        accesses = self.hits + self.misses
        return self.hits / accesses if accesses else 0.0
