"""A fragment's bytes on their way into the cache, counted and hashed before anybody may read them.

Imports the standard library only.
"""

import hashlib
from typing import TYPE_CHECKING

from arbiter.cache.errors import DamagedFragmentError
from arbiter.cache.fragment import BytesLike, Fragment, digest_of

if TYPE_CHECKING:
    from arbiter.cache.store import Writer


class Intake:
    """Takes one fragment's bytes in order and hands them on to a tier's writer; used by one thread at a time."""

    def __init__(self, fragment: Fragment, writer: "Writer") -> None:
        self.fragment = fragment
        self.received = 0
        """Bytes so far: where a resumed transfer goes on."""
        self._writer = writer
        self._hash = hashlib.sha256()

    def write(self, piece: BytesLike) -> None:
        """The next bytes.

        Raises:
            DamagedFragmentError: they are more than the fragment has.
            StoreError: the tier cannot take them.
        """
        size = memoryview(piece).nbytes
        if self.received + size > self.fragment.size:
            raise DamagedFragmentError(f"fragment {self.fragment.id} is longer than its {self.fragment.size} bytes.")
        self._hash.update(piece)
        self._writer.write(piece)
        self.received += size

    def restart(self) -> None:
        """The first byte comes next."""
        self._writer.restart()
        self._hash = hashlib.sha256()
        self.received = 0

    def check(self) -> None:
        """See that all came and that it is what the id says.

        Raises:
            DamagedFragmentError: it is not.
        """
        if self.received != self.fragment.size:
            raise DamagedFragmentError(
                f"fragment {self.fragment.id} ended after {self.received} of {self.fragment.size} bytes."
            )
        if self._hash.hexdigest() != digest_of(self.fragment.id):
            raise DamagedFragmentError(
                f"fragment {self.fragment.id} came with other bytes, sha256:{self._hash.hexdigest()}."
            )
