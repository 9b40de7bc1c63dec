"""From a configuration to the stores and the source of a cache, with what an earlier process left in them.

Imports the standard library only; the CDN's client, which needs aiohttp, is imported where a CDN is configured.
"""

import resource
import tempfile
from collections.abc import Mapping
from pathlib import Path

from arbiter.cache.config import CacheConfig
from arbiter.cache.errors import CacheConfigError
from arbiter.cache.files import FileStore
from arbiter.cache.fragment import CacheTier
from arbiter.cache.index import CacheIndex
from arbiter.cache.store import AccountingStore, Source, TierStore


def open_stores(config: CacheConfig, given: Mapping[CacheTier, TierStore]) -> dict[CacheTier, TierStore]:
    """A store for each tier that has a size: the given one, else the one that the configuration names."""
    return {
        tier: given[tier] if tier in given else _open_store(config, tier)
        for tier, capacity in config.capacities.items()
        if capacity
    }


def open_source(config: CacheConfig) -> Source | None:
    """The CDN that the configuration names, if it does."""
    if config.cdn_url is None:
        return None
    from arbiter.cache.cdn import Cdn  # noqa: PLC0415 - needs aiohttp, which a cache without a CDN does not

    return Cdn(config.cdn_url)


def find_again(index: CacheIndex, stores: Mapping[CacheTier, TierStore]) -> None:
    """Take up what an earlier process left, the newest first while it fits; its bytes are checked when it is read."""
    for tier, store in stores.items():
        kept = []
        for fragment in reversed(store.scan()):
            known = index.fragment(fragment.id)
            if fragment.size <= index.room(tier) and (known is None or known.size == fragment.size):
                index.reserve(fragment, tier)
                kept.append(fragment)
            else:
                store.delete(fragment.id)
        for fragment in reversed(kept):  # the eviction order starts with the oldest
            index.commit(fragment.id, tier)


def most_open() -> int:
    """Contents that may be kept open: each takes two descriptors, and half of those of this process are its own."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(limit // 4, 16384) if limit > 0 else 16384


def _open_store(config: CacheConfig, tier: CacheTier) -> TierStore:
    match tier:
        case CacheTier.VRAM:
            return AccountingStore(tier)
        case CacheTier.RAM if config.ram_directory:
            return FileStore(config.ram_directory, durable=False)
        case CacheTier.RAM:
            shared = Path("/dev/shm")  # noqa: S108 - shared memory; the store makes a directory for this user alone
            return FileStore.private(shared if shared.is_dir() else Path(tempfile.gettempdir()))
        case CacheTier.NVME if config.nvme_directory:
            return FileStore(config.nvme_directory, durable=True)
    raise CacheConfigError(f"the {tier} tier has a size and no place: write nvme_directory.")
