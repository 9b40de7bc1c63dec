"""The settings of a fragment cache, and the stores and the source that they name.

Imports the standard library only; the CDN's client, which needs aiohttp, is imported where a CDN is configured.
"""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from arbiter.arguments import seconds, size
from arbiter.cache.arguments import refusals
from arbiter.cache.errors import CacheConfigError
from arbiter.cache.files import FileStore
from arbiter.cache.fragment import CacheTier
from arbiter.cache.private import private_store
from arbiter.cache.store import AccountingStore, Source, TierStore
from arbiter.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """How large the tiers are, in bytes (0: no such tier), and where they lie. The defaults are the reference's.

    `ram_directory` lies on tmpfs and outlives the process, so that a restarted daemon finds its fragments again; by
    default each cache has a private one in /dev/shm that is emptied when it is closed. `nvme_directory` lies on a
    disk. Fragments that no tier has are fetched from `<cdn_url>/sha256/<digest>`.

    `parallel_transfers`: fragments that are downloaded at once; as many may move between the tiers meanwhile.
    `room_timeout`: seconds to wait for readers to let go of a full tier when a fragment cannot be kept anywhere else.

    Raises:
        CacheConfigError: a size is none, a directory or the CDN's address is none, or nothing may be on its way.
    """

    vram_bytes: int = 10 * GIB
    ram_bytes: int = 32 * GIB
    nvme_bytes: int = 0
    ram_directory: Path | str | None = None
    nvme_directory: Path | str | None = None
    cdn_url: str | None = None
    parallel_transfers: int = 8
    room_timeout: float = 30.0

    def __post_init__(self) -> None:
        with refusals():
            for name in ("vram_bytes", "ram_bytes", "nvme_bytes"):
                size(getattr(self, name), what=name)
            seconds(self.room_timeout, what="room_timeout")
        for name in ("ram_directory", "nvme_directory"):
            if not isinstance(directory := getattr(self, name), Path | str | None):
                raise CacheConfigError(f"{name} is {directory!r}; write a path.")
        if self.cdn_url is not None and not str(self.cdn_url).startswith(("http://", "https://")):
            raise CacheConfigError(
                f'cdn_url is "{self.cdn_url}"; write an address such as https://cdn.example/fragments.'
            )
        if not _is_count(self.parallel_transfers):
            raise CacheConfigError(f"parallel_transfers is {self.parallel_transfers!r}; write a whole number above 0.")

    @property
    def capacities(self) -> dict[CacheTier, int]:
        """Bytes by tier."""
        return {CacheTier.VRAM: self.vram_bytes, CacheTier.RAM: self.ram_bytes, CacheTier.NVME: self.nvme_bytes}

    @classmethod
    def within(cls, *, vram_budget: int, ram_budget: int) -> "CacheConfig":
        """The cache of an arbiter with these budgets in bytes: half of its VRAM and all of its RAM."""
        return cls(vram_bytes=vram_budget // 2, ram_bytes=ram_budget)


def config_of(given: object) -> CacheConfig:
    """A configuration.

    Raises:
        CacheConfigError: it is none.
    """
    if not isinstance(given, CacheConfig):
        raise CacheConfigError(f"an object of class {type(given).__name__} is no configuration; write CacheConfig().")
    return given


def open_stores(
    config: CacheConfig, given: Mapping[CacheTier, TierStore], opened: ExitStack
) -> dict[CacheTier, TierStore]:
    """A store for each tier that has a size: the given one, else the one that the configuration names.

    Those are closed by `opened`; a given one is its giver's as long as there is no cache.
    """
    return {
        tier: given[tier] if tier in given else opened.enter_context(closing(_open_store(config, tier)))
        for tier, capacity in config.capacities.items()
        if capacity
    }


def open_source(config: CacheConfig, opened: ExitStack) -> Source | None:
    """The CDN that the configuration names, if it does; closed by `opened`."""
    if config.cdn_url is None:
        return None
    from arbiter.cache.cdn import Cdn  # noqa: PLC0415 - needs aiohttp, which a cache without a CDN does not

    return opened.enter_context(closing(Cdn(config.cdn_url)))


def _open_store(config: CacheConfig, tier: CacheTier) -> TierStore:
    match tier:
        case CacheTier.VRAM:
            return AccountingStore(tier)
        case CacheTier.RAM if config.ram_directory:
            return FileStore(Path(config.ram_directory), durable=False)
        case CacheTier.RAM:
            shared = Path("/dev/shm")  # noqa: S108 - shared memory; the store makes a directory for this user alone
            return private_store(shared if shared.is_dir() else Path(tempfile.gettempdir()))
        case CacheTier.NVME if config.nvme_directory:
            return FileStore(Path(config.nvme_directory), durable=True)
    raise CacheConfigError(f"the {tier} tier has a size and no place: write nvme_directory.")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
