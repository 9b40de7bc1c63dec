"""What can go wrong in the fragment cache.

Imports nothing::

    CacheError
    ├── CacheConfigError            a setting that cannot be
    ├── CacheClosedError            the cache was closed
    ├── InvalidFragmentError        an id or a size that no fragment has
    ├── UnknownFragmentError        no tier holds it
    ├── FragmentInUseError          readers hold it
    ├── FragmentTooLargeError       larger than the whole tier
    ├── TierFullError               what fills the tier is held by readers
    ├── NoBytesError                the tier only accounts for the fragment
    ├── StoreError                  a tier's store failed: disk full, no permission, no thread to be had
    │   └── DirectoryInUseError     another process uses the directory
    ├── DamagedFragmentError        bytes that are not what the id says
    └── FragmentUnavailableError    in no tier, and it could not be fetched
"""


class CacheError(Exception):
    """Anything that the fragment cache refuses or fails at."""


class CacheConfigError(CacheError):
    """A setting that cannot be; the text says what to write instead."""


class CacheClosedError(CacheError):
    """The cache was closed before the call, or while it waited."""


class InvalidFragmentError(CacheError):
    """An id or a size that no fragment has."""


class UnknownFragmentError(CacheError):
    """No tier holds the fragment."""


class FragmentInUseError(CacheError):
    """Readers hold leases on the fragment, or it is on its way between tiers."""


class FragmentTooLargeError(CacheError):
    """The fragment is larger than the whole tier."""


class TierFullError(CacheError):
    """There is no room in the tier, and what fills it is held by readers."""


class NoBytesError(CacheError):
    """The bytes were asked of a tier that only accounts for them or cannot be mapped."""


class StoreError(CacheError):
    """A tier's store failed: the disk is full, a permission is missing, the system has no thread to give."""


class DirectoryInUseError(StoreError):
    """Another process keeps its fragments in this directory."""


class DamagedFragmentError(CacheError):
    """The bytes are not those that the fragment's id names."""


class FragmentUnavailableError(CacheError):
    """No tier holds the fragment, and it could not be fetched."""
