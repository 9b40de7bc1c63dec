"""Fragments, caches of a few hundred bytes, and a source in memory whose fetches the test holds back or fails."""

import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from arbiter.cache import (
    AccountingStore,
    CacheConfig,
    CacheTier,
    Fragment,
    FragmentCache,
    FragmentId,
    FragmentUnavailableError,
    Intake,
    TierStore,
)
from tests.support.patience import PATIENCE

VRAM, RAM, NVME, CDN = CacheTier


def named(name: str, size: int = 100) -> Fragment:
    """A fragment that is only accounted for."""
    return Fragment(id=FragmentId(name), size=size)


def content(name: str, size: int = 100) -> bytes:
    """Bytes of this size that no other name has."""
    return (name * size)[:size].encode()


def fragment(name: str, size: int = 100) -> Fragment:
    """The fragment that `content` of the same arguments is."""
    return Fragment.of(content(name, size))


A, B, C, D = (fragment(name) for name in "abcd")


def accounting_cache(*, vram: int = 0, ram: int = 0, nvme: int = 0) -> FragmentCache:
    """A cache without bytes."""
    config = CacheConfig(vram_bytes=vram, ram_bytes=ram, nvme_bytes=nvme)
    return FragmentCache(config, stores={tier: AccountingStore(tier) for tier in (VRAM, RAM, NVME)})


def file_cache(
    directory: Path,
    *,
    vram: int = 0,
    ram: int = 0,
    nvme: int = 0,
    source: "MemorySource | None" = None,
    stores: Mapping[CacheTier, TierStore] | None = None,
    room_timeout: float = 0.0,
    parallel: int = 8,
) -> FragmentCache:
    """A cache whose RAM and NVMe are directories below this one."""
    config = CacheConfig(
        vram_bytes=vram,
        ram_bytes=ram,
        nvme_bytes=nvme,
        ram_directory=directory / "ram",
        nvme_directory=directory / "nvme",
        room_timeout=room_timeout,
        parallel_transfers=parallel,
    )
    return FragmentCache(config, source=source, stores=stores)


def put(cache: FragmentCache, *names: str, tier: CacheTier = RAM) -> None:
    """Inserts fragments with their bytes."""
    for name in names:
        cache.insert(fragment(name), content(name), tier=tier)


def used(cache: FragmentCache) -> dict[CacheTier, int]:
    """Bytes by tier."""
    return {tier: stats.used for tier, stats in cache.stats().tiers.items()}


def read(cache: FragmentCache, wanted: Fragment, *, into: CacheTier = RAM) -> bytes:
    """All bytes of a fragment."""
    with cache.open(wanted, into=into) as lease:
        return bytes(lease.view)


class MemorySource:
    """Has every content that it is given; counts what it is asked for."""

    def __init__(self, *contents: bytes) -> None:
        self._contents = {Fragment.of(each).id: each for each in contents}
        self.fetched: Counter[FragmentId] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()

    def fetch(self, fragment: Fragment, intake: Intake) -> None:
        self.fetched[fragment.id] += 1
        self.reached.set()
        assert self.gate.wait(PATIENCE)
        if fragment.id not in self._contents:
            raise FragmentUnavailableError(f"there is no {fragment.id}.")
        intake.write(self._contents[fragment.id])

    def have(self, content: bytes) -> None:
        self._contents[Fragment.of(content).id] = content

    def close(self) -> None:
        self.gate.set()
