"""What the cache keeps, fragments of model weights, and the tiers that they lie in.

Imports the standard library only.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, TypeAlias

from arbiter.arguments import size
from arbiter.cache.errors import InvalidFragmentError

BytesLike: TypeAlias = bytes | bytearray | memoryview

FragmentId = NewType("FragmentId", str)
"""`sha256:` and 64 hexadecimal digits, the digest of the content as OCI registries write it.

A tier that only accounts for bytes takes any other text too.
"""

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class CacheTier(StrEnum):
    """Where a fragment lies, from the fastest tier to the one that has everything."""

    VRAM = "VRAM"
    RAM = "RAM"
    NVME = "NVMe"
    CDN = "CDN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """One fragment as a model's manifest names it; `size` in bytes, at least 1.

    Raises:
        InvalidFragmentError: the id is no text or empty, the size no whole number or below 1.
    """

    id: FragmentId
    size: int

    def __post_init__(self) -> None:
        if not self.id or not _is_text(self.id):
            raise InvalidFragmentError(
                f"a fragment's id is {self.id!r}; write the digest of its content, sha256:<hex>."
            )
        try:
            size(self.size, what=f"the size of fragment {self.id}")
        except ValueError as error:
            raise InvalidFragmentError(str(error)) from error
        if self.size < 1:
            raise InvalidFragmentError(f"fragment {self.id} has {self.size} bytes; a fragment has at least 1.")

    @classmethod
    def of(cls, content: BytesLike) -> "Fragment":
        """The fragment that these bytes are."""
        return cls(id=FragmentId(f"sha256:{hashlib.sha256(content).hexdigest()}"), size=memoryview(content).nbytes)


def is_digest(fragment: FragmentId) -> bool:
    """Whether the id names content; any other only stands for itself."""
    return _DIGEST.fullmatch(fragment) is not None


def digest_of(fragment: FragmentId) -> str:
    """The SHA-256 in an id, 64 hexadecimal digits; whoever makes a path or a URL of an id must go through here.

    Raises:
        InvalidFragmentError: the id is no such digest.
    """
    match = _DIGEST.fullmatch(fragment)
    if match is None:
        raise InvalidFragmentError(
            f'"{fragment}" is no digest; a fragment whose bytes are kept is named sha256:<64 hexadecimal digits>.'
        )
    return match[1]


def _is_text(value: object) -> bool:
    return isinstance(value, str)
