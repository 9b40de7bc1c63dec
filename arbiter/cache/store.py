"""What a tier needs of the thing that keeps its bytes, how bytes come in, and the store that keeps none.

A device's memory, a directory, another machine: whoever brings these few methods is a tier. Imports the standard
library only.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from arbiter.cache.errors import DamagedFragmentError, NoBytesError
from arbiter.cache.fragment import BytesLike, CacheTier, Fragment, FragmentId, digest_of


class Content(Protocol):
    """One fragment's bytes in one tier. It stays readable for as long as somebody refers to it."""

    @property
    def path(self) -> Path | None:
        """A file of exactly these bytes that any process may map, where the tier has such files."""

    def is_intact(self) -> bool:
        """Whether nobody has touched it since it was opened, as far as that can be told within a microsecond or two."""

    def view(self) -> memoryview:
        """All bytes, mapped into this process, read-only.

        Raises:
            NoBytesError: the host cannot map this tier.
            StoreError: they cannot be mapped.
        """

    def read_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        """Copy bytes from `offset` on to the buffer; how many, 0 at the end.

        Raises:
            NoBytesError: the tier only accounts for its fragments.
        """


class Writer(Protocol):
    """A fragment on its way into a store: all `write`, then either `commit` or `abort`."""

    def write(self, piece: BytesLike) -> None:
        """The next bytes. Raises StoreError."""

    def restart(self) -> None:
        """Forget what was written; the first byte comes next."""

    def commit(self) -> None:
        """All is written, and its bytes were found to be those of the fragment's id. Raises StoreError."""

    def abort(self) -> None:
        """Nothing remains of it."""


class Intake:
    """Counts and hashes one fragment's bytes on their way into a writer; used by one thread at a time."""

    def __init__(self, fragment: Fragment, writer: Writer) -> None:
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


class TierStore(Protocol):
    """The bytes of one tier. Its methods are called by several threads, for one fragment by one at a time."""

    holds_bytes: bool
    """Whether bytes can be read back out of it."""

    def scan(self) -> Sequence[Fragment]:
        """What an earlier run left here, the oldest first."""

    def create(self, fragment: Fragment) -> Writer:
        """Begin to keep it; the index has counted its bytes. Raises StoreError, InvalidFragmentError."""

    def open(self, fragment: Fragment) -> Content:
        """Its bytes, which are known to be right.

        Raises:
            DamagedFragmentError: they are missing, or are not what its id says.
            StoreError: they cannot be read.
        """

    def delete(self, fragment: FragmentId) -> None:
        """Free its bytes; no harm if there are none. Raises StoreError."""

    def close(self) -> None:
        """No more calls come. What survives a restart stays."""


class Source(Protocol):
    """Where fragments come from that no tier has."""

    def fetch(self, fragment: Fragment, intake: Intake) -> None:
        """Pour the fragment into `intake`, from any thread, and return once `intake.check()` passes.

        Raises:
            FragmentUnavailableError: it cannot be had.
        """

    def close(self) -> None:
        """Break off what is under way; no more calls come."""


class AccountingStore:
    """Keeps no bytes: for a tier that somebody else fills, such as the VRAM of the engines on this machine."""

    holds_bytes = False

    def __init__(self, tier: CacheTier) -> None:
        self._content = _AccountedContent(tier)

    def scan(self) -> Sequence[Fragment]:
        """Nothing survives."""
        return ()

    def create(self, fragment: Fragment) -> Writer:  # noqa: ARG002 - the protocol's signature
        """A writer that keeps nothing."""
        return _AccountedWriter()

    def open(self, fragment: Fragment) -> Content:  # noqa: ARG002 - the protocol's signature
        """A content that has no bytes to give."""
        return self._content

    def delete(self, fragment: FragmentId) -> None:
        """There is nothing to free."""

    def close(self) -> None:
        """There is nothing to close."""


class _AccountedContent:
    path = None

    def __init__(self, tier: CacheTier) -> None:
        self._tier = tier

    def is_intact(self) -> bool:
        return True

    def view(self) -> memoryview:
        raise NoBytesError(f"the {self._tier} tier only accounts for its fragments; open it into a tier with bytes.")

    def read_into(self, buffer: bytearray | memoryview, offset: int) -> int:  # noqa: ARG002 - the protocol's signature
        raise NoBytesError(f"the {self._tier} tier only accounts for its fragments; open it into a tier with bytes.")


class _AccountedWriter:
    def write(self, piece: BytesLike) -> None:
        pass

    def restart(self) -> None:
        pass

    def commit(self) -> None:
        pass

    def abort(self) -> None:
        pass
