"""The fragment cache: fragments of model weights, kept once for all engines of a machine.

Tiers VRAM <- RAM <- NVMe <- CDN. Imports the core and the standard library; `cdn` alone also imports aiohttp.

=============  ============================================================================================
`fragment`     what is kept, and the names of the tiers
`arguments`    what people hand over, or a sentence about it
`config`       sizes and places, and the stores and the source that they name
`order`        in which order one tier gives its fragments up: segmented LRU, shared ones last
`index`        which copy lies where, who holds it, which goes next; every byte accounted for
`store`        what a tier needs of the thing that keeps its bytes, how bytes come in; the store that keeps none
`files`        the store of files: shared memory or NVMe
`private`      the directory of a cache that names none
`cdn`          fragments over HTTP: ranges, resuming, retries
`mover`        carries bytes into, between and out of the stores, as the index decides
`flights`      one job per fragment at a time, however many wait
`transfers`    what a flight does: find, fetch, bring up
`readers`      how a reader comes to its lease, at once or by a flight
`cache`        `FragmentCache`, the thin shell around all that
=============  ============================================================================================
"""

from arbiter.cache.cache import FragmentCache
from arbiter.cache.config import CacheConfig
from arbiter.cache.errors import (
    CacheClosedError,
    CacheConfigError,
    CacheError,
    DamagedFragmentError,
    DirectoryInUseError,
    FragmentInUseError,
    FragmentTooLargeError,
    FragmentUnavailableError,
    InvalidFragmentError,
    NoBytesError,
    StoreError,
    TierFullError,
    UnknownFragmentError,
)
from arbiter.cache.files import FileStore
from arbiter.cache.fragment import CacheTier, Fragment, FragmentId
from arbiter.cache.lease import Lease
from arbiter.cache.stats import CacheStats, TierStats
from arbiter.cache.store import AccountingStore, Content, Intake, Source, TierStore, Writer

__all__ = [
    "AccountingStore",
    "CacheClosedError",
    "CacheConfig",
    "CacheConfigError",
    "CacheError",
    "CacheStats",
    "CacheTier",
    "Content",
    "DamagedFragmentError",
    "DirectoryInUseError",
    "FileStore",
    "Fragment",
    "FragmentCache",
    "FragmentId",
    "FragmentInUseError",
    "FragmentTooLargeError",
    "FragmentUnavailableError",
    "Intake",
    "InvalidFragmentError",
    "Lease",
    "NoBytesError",
    "Source",
    "StoreError",
    "TierFullError",
    "TierStats",
    "TierStore",
    "UnknownFragmentError",
    "Writer",
]
