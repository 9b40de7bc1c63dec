"""A tier as a directory of files: shared memory when the directory lies on tmpfs, NVMe when it lies on a disk.

Each fragment is one read-only file `sha256/<digest>` that any process may map by its path, so nothing has to pass
through this one. It is written as `incoming/<digest>` and gets its name when it is whole; a durable store syncs the
file before and the directory after that, so that after a crash a name stands for all of its bytes or for nothing.
A file that this process did not write is hashed when it is first opened, and again only if it was replaced or written
to: its device, inode, size or time of modification differs. Bytes that change without that, on the medium itself, are
found by the next process.

`multiprocessing.shared_memory` is no alternative: before Python 3.13 the resource tracker of every process that maps a
block unlinks it when that process ends (python/cpython#82300). The files are filled by `write`, never through a
mapping, because a full tmpfs then answers with an error instead of a SIGBUS.

Imports the standard library only.
"""

import errno
import fcntl
import hashlib
import mmap
import os
import shutil
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from arbiter.cache.errors import DamagedFragmentError, DirectoryInUseError, StoreError
from arbiter.cache.fragment import BytesLike, Fragment, FragmentId, digest_of, is_digest

_FILE_IS_LOST = frozenset({errno.ENOENT, errno.EIO})


class _Identity(NamedTuple):
    """What tells one version of a file from another without reading it."""

    device: int
    inode: int
    size: int
    modified_ns: int


class FileStore:
    """Fragments in `directory`, which no other process uses meanwhile.

    Args:
        directory: made where it is missing. What an earlier process left is found by `scan`.
        durable: whether fragments survive a crash of the machine; without it, only a crash of the process.
        keep: whether fragments stay when the store is closed.

    Raises:
        DirectoryInUseError: another process uses the directory.
        StoreError: it cannot be used.
    """

    holds_bytes = True

    def __init__(self, directory: Path, *, durable: bool, keep: bool = True) -> None:
        self.directory = directory
        self._durable = durable
        self._fragments = directory / "sha256"
        self._incoming = directory / "incoming"
        self._verified: dict[FragmentId, _Identity] = {}
        with store_errors(f"{directory} cannot be used"), ExitStack() as opened:
            self._fragments.mkdir(parents=True, exist_ok=True)
            lock = _lock(directory)
            opened.callback(os.close, lock)
            self._fragments.mkdir(exist_ok=True)  # whoever had the lock until now may have thrown it away
            shutil.rmtree(self._incoming, ignore_errors=True)
            self._incoming.mkdir()
            if durable:
                _sync_directory(directory)
            opened.pop_all()
        # Also where nobody closes it: nobody wants to find 32 GiB of a forgotten cache in /dev/shm.
        self._let_go = weakref.finalize(self, _let_go, lock, None if keep else self._fragments, process=os.getpid())

    def scan(self) -> Sequence[Fragment]:
        """The fragments whose files stand here, the oldest first; their bytes are not looked at yet.

        What else lies there was put there by somebody else: it is left alone, and not counted.
        """
        with store_errors(f"{self.directory} cannot be read"), os.scandir(self._fragments) as entries:
            found = [
                (entry.stat(follow_symlinks=False), FragmentId(f"sha256:{entry.name}"))
                for entry in entries
                if entry.is_file(follow_symlinks=False)
            ]
        return [
            Fragment(id=fragment, size=status.st_size)
            for status, fragment in sorted(found, key=lambda each: each[0].st_mtime_ns)
            if status.st_size and is_digest(fragment)
        ]

    def create(self, fragment: Fragment) -> "FileWriter":
        """A file of its size, whose blocks are allocated now: a full disk says so before the transfer.

        Raises:
            InvalidFragmentError: the id is no digest.
            StoreError: there is no room, or no permission.
        """
        return FileWriter(
            path=self._path(fragment.id),
            incoming=self._incoming / digest_of(fragment.id),
            size=fragment.size,
            durable=self._durable,
            on_commit=lambda identity: self._verified.update({fragment.id: identity}),
        )

    def open(self, fragment: Fragment) -> "FileContent":
        """The file's bytes, hashed if this process has not seen this very file before.

        Raises:
            DamagedFragmentError: the file is missing, or its bytes are not what the id says.
            StoreError: it cannot be read.
        """
        path = self._path(fragment.id)
        try:
            content = FileContent(path)
            if content.identity != self._verified.get(fragment.id):
                content.verify(fragment)
                self._verified[fragment.id] = content.identity
        except OSError as error:
            what = f"{path} cannot be read: {error.strerror}."
            # A missing file or one on bad blocks is to be fetched anew; a lack of descriptors is not its fault.
            raise (DamagedFragmentError if error.errno in _FILE_IS_LOST else StoreError)(what) from error
        return content

    def delete(self, fragment: FragmentId) -> None:
        """Unlink its file; processes that have it mapped keep their mapping.

        Raises:
            StoreError: it cannot be unlinked.
        """
        self._verified.pop(fragment, None)
        path = self._path(fragment)
        with store_errors(f"{path} cannot be deleted"):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process use the directory."""
        self._let_go()

    def _path(self, fragment: FragmentId) -> Path:
        return self._fragments / digest_of(fragment)


class FileWriter:
    """A file that is being filled."""

    def __init__(
        self, *, path: Path, incoming: Path, size: int, durable: bool, on_commit: Callable[[_Identity], None]
    ) -> None:
        self._path = path
        self._incoming = incoming
        self._durable = durable
        self._on_commit = on_commit
        with store_errors(f"{path} cannot be written"):
            self._descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                _allocate(self._descriptor, size)
            except OSError:
                self.abort()
                raise

    def write(self, piece: BytesLike) -> None:
        """The next bytes. Raises StoreError."""
        rest = memoryview(piece).cast("B")
        with store_errors(f"{self._path} cannot be written"):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def restart(self) -> None:
        """The first byte comes next."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)

    def commit(self) -> None:
        """Make it readable for everybody, writable for nobody, and give it its name. Raises StoreError."""
        with store_errors(f"{self._path} cannot be written"):
            os.fchmod(self._descriptor, 0o444)
            if self._durable:
                os.fsync(self._descriptor)
            self._incoming.rename(self._path)
            if self._durable:
                _sync_directory(self._path.parent)
            self._on_commit(_identity(self._descriptor))
        self._close()

    def abort(self) -> None:
        """Nothing remains of it, under neither name."""
        self._close()
        for path in (self._incoming, self._path):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _close(self) -> None:
        # Who writes too late hears so, instead of writing to the next file that gets this number.
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


class FileContent:
    """A fragment's file, open for reading; it stays readable after it was unlinked."""

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._map: mmap.mmap | None = None
        self.path = path
        self.identity = _identity(self._descriptor)

    def __del__(self) -> None:
        # Leases are many and their views outlive them, so the last reference closes, not a call that somebody owes.
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def is_intact(self) -> bool:
        """Whether the file still has its name and its time of modification."""
        status = os.fstat(self._descriptor)
        return status.st_nlink > 0 and status.st_mtime_ns == self.identity.modified_ns

    def view(self) -> memoryview:
        """All bytes, read-only, in pages that every process which maps the file shares. Raises StoreError."""
        if self._map is None:
            with store_errors(f"{self.path} cannot be mapped"):
                try:
                    self._map = mmap.mmap(self._descriptor, self.identity.size, access=mmap.ACCESS_READ)
                except ValueError as error:
                    raise StoreError(f"{self.path} was cut short by somebody.") from error
        return memoryview(self._map)

    def read_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        """Copy bytes from `offset` on to the buffer; how many, 0 at the end. Raises StoreError."""
        with store_errors(f"{self.path} cannot be read"):
            return os.preadv(self._descriptor, [buffer], offset)

    def verify(self, fragment: Fragment) -> None:
        """Read and hash the whole file.

        Raises:
            DamagedFragmentError: it is not this fragment.
        """
        with open(self._descriptor, "rb", buffering=0, closefd=False) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if self.identity.size != fragment.size or digest != digest_of(fragment.id):
            raise DamagedFragmentError(
                f"{self.path} has {self.identity.size} bytes with the digest {digest}; "
                f"{fragment.size} bytes with the digest of its name should be there."
            )


def _identity(descriptor: int) -> _Identity:
    status = os.fstat(descriptor)
    return _Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _allocate(descriptor: int, size: int) -> None:
    # Where there is no such call (macOS), or the file system has none, a full disk tells at a write.
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def _lock(directory: Path) -> int:
    """A lock that the kernel takes back when this process ends, however it ends."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise DirectoryInUseError(f"{directory} is used by another cache; give each its own directory.") from error
    return descriptor


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _let_go(lock: int, fragments: Path | None, *, process: int) -> None:
    if fragments and os.getpid() == process:  # a forked child must not take its parent's fragments away
        shutil.rmtree(fragments, ignore_errors=True)
    os.close(lock)


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Has what the system refuses be a StoreError that says what could not be done."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror}.") from error
