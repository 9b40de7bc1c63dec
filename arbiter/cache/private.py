"""Where a cache that names no directory for RAM keeps its bytes: in memory, for as long as its process lives.

Imports the standard library only.
"""

import os
import stat
from contextlib import suppress
from itertools import count
from pathlib import Path

from arbiter.cache.errors import DirectoryInUseError, StoreError
from arbiter.cache.files import FileStore, store_errors


def private_store(root: Path) -> FileStore:
    """A store below `root` for this process and this user alone, empty again when it is closed.

    Its directory has the first number that no living process uses. What a killed process left there is found by
    `scan`, so that it is used or evicted; what others left in theirs is thrown away.

    Raises:
        StoreError: no directory can be made.
    """
    name = f"arbiter-cache-{os.geteuid()}-"
    store = _first_free(root, name)
    for other in root.glob(f"{name}*"):
        with suppress(StoreError):  # it is in use, mostly, or gone by now
            if other.name.removeprefix(name).isdecimal() and _is_mine(other):
                FileStore(other, durable=False, keep=False).close()
    return store


def _first_free(root: Path, name: str) -> FileStore:
    for number in count():
        directory = root / f"{name}{number}"
        with store_errors(f"{directory} cannot be made"), suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        if _is_mine(directory):
            with suppress(DirectoryInUseError):
                return FileStore(directory, durable=False, keep=False)
    raise AssertionError("counting never ends")


def _is_mine(directory: Path) -> bool:
    """Whether it is a directory, and of this user: anybody may put anything where this one lies."""
    with store_errors(f"{directory} cannot be looked at"):
        status = directory.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
