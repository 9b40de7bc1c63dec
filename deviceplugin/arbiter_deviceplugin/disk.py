"""What must survive a crash, below --state-dir: one file for each record and each allocation, and the vram unit.

Files are replaced as a whole and are on the disk when a call returns. Blocking: call it in a thread.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from arbiter.ids import PodUid
from arbiter.transitions import InvalidRecordError, Record
from arbiter.transitions import decode as decode_record
from arbiter.transitions import encode as encode_record
from arbiter_deviceplugin.allocations import Allocation, InvalidAllocationError
from arbiter_deviceplugin.allocations import decode as decode_allocation
from arbiter_deviceplugin.allocations import encode as encode_allocation

_log = logging.getLogger(__name__)

T = TypeVar("T")

_SUFFIX = ".json"


class StateError(Exception):
    """State that cannot be read: starting without it could promise bytes twice."""


class Disk:
    """The state directory of one agent."""

    def __init__(self, root: Path) -> None:
        self._records = root / "records"
        self._allocations = root / "allocations"
        self._unit = root / "unit.json"
        for directory in (self._records, self._allocations):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save_record(self, record: Record) -> None:
        """Writes what a container may hold."""
        replace_durably(self._records / (record.uid + _SUFFIX), encode_record(record).encode())

    def delete_record(self, uid: PodUid) -> None:
        """Forgets a container."""
        _delete_durably(self._records / (uid + _SUFFIX))

    def save_allocation(self, allocation: Allocation) -> None:
        """Writes which slices go with which directory."""
        replace_durably(self._allocations / (allocation.directory + _SUFFIX), encode_allocation(allocation))

    def delete_allocation(self, allocation: Allocation) -> None:
        """Forgets an allocation."""
        _delete_durably(self._allocations / (allocation.directory + _SUFFIX))

    def save_unit(self, unit: int) -> None:
        """Writes the bytes of one slice."""
        replace_durably(self._unit, json.dumps({"version": 1, "unit": unit}).encode())

    def records(self) -> tuple[Record, ...]:
        """Every record.

        Raises:
            StateError: one cannot be read.
        """
        return tuple(_load(self._records, lambda text: decode_record(text.decode())))

    def allocations(self) -> tuple[Allocation, ...]:
        """Every allocation.

        Raises:
            StateError: one cannot be read.
        """
        return tuple(_load(self._allocations, decode_allocation))

    def unit(self) -> int | None:
        """The bytes of one slice when the allocations were made; None before the first start.

        Raises:
            StateError: it cannot be read.
        """
        try:
            return int(json.loads(self._unit.read_bytes())["unit"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"{self._unit} cannot be read: {error!r}.") from error


def replace_durably(path: Path, text: bytes) -> None:
    """Puts `text` in the place of what was there; after a power cut it is the one or the other."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_directory(path.parent)


def _delete_durably(path: Path) -> None:
    path.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(directory: Path, read: Callable[[bytes], T]) -> Iterator[T]:
    for path in sorted(directory.iterdir()):
        if path.name.startswith("."):
            _log.info("unfinished file removed path=%s", path)
            path.unlink()
            continue
        try:
            yield read(path.read_bytes())
        except (InvalidRecordError, InvalidAllocationError, UnicodeDecodeError) as error:
            raise StateError(f"{path} cannot be read: {error}; move it away once its pod is gone.") from error
