"""The objects that a list and a watch tell of, and what changed between two lists. Pure: no I/O, no clock."""

import logging
from collections.abc import Set
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from arbiter_kube.api.objects import ObjectKey, ObjectMeta, PartialObject
from arbiter_kube.client import codec
from arbiter_kube.client.errors import UnreadableError

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Applied(Generic[T]):
    """An object that is new or changed."""

    object: T


@dataclass(frozen=True, slots=True)
class Deleted(Generic[T]):
    """An object that is gone, as it was last seen."""

    object: T


@dataclass(frozen=True, slots=True)
class Synced:
    """A complete list has just been told: what it did not mention is unchanged."""


Change = Applied[T] | Deleted[T]


class _Version(NamedTuple):
    uid: str
    resource_version: str


class Store(Generic[T]):
    """Objects by namespace and name.

    An object that cannot be decoded is logged, counted in `unreadable` and keeps its last readable form.
    """

    def __init__(self, model: type[T]) -> None:
        self._model = model
        self._versions: dict[ObjectKey, _Version] = {}
        self.objects: dict[ObjectKey, T] = {}
        self.unreadable = 0

    def keep_only(self, keys: Set[ObjectKey]) -> list[Change[T]]:
        """Takes out every object that a complete list did not name."""
        return [change for key in sorted(self._versions.keys() - keys) for change in self._forget(key)]

    def apply(self, item: bytes) -> list[Change[T]]:
        """Takes in one listed, added or modified object; one of the version that is known changes nothing."""
        metadata = metadata_of(item)
        known, version = self._versions.get(metadata.key), _Version(metadata.uid, metadata.resource_version)
        if known == version:
            return []
        # Re-created under its name while nobody watched: whoever counts by uid must hear of the end of the first.
        changes = self._forget(metadata.key) if known is not None and known.uid != version.uid else []
        self._versions[metadata.key] = version
        decoded = self._decode(item, metadata.key)
        if decoded is not None:
            self.objects[metadata.key] = decoded
            changes.append(Applied(decoded))
        return changes

    def delete(self, item: bytes) -> list[Change[T]]:
        """Takes one object out; it is told as it was at its end, where that can be read."""
        key = metadata_of(item).key
        self._versions.pop(key, None)
        before = self.objects.pop(key, None)
        last = self._decode(item, key) or before
        return [] if last is None else [Deleted(last)]

    def _forget(self, key: ObjectKey) -> list[Change[T]]:
        del self._versions[key]
        return [Deleted(self.objects.pop(key))] if key in self.objects else []

    def _decode(self, item: bytes, key: ObjectKey) -> T | None:
        try:
            return codec.decode(item, self._model)
        except UnreadableError as error:
            self.unreadable += 1
            _log.warning("object skipped object=%s error=%s", key, error)
            return None


def metadata_of(item: bytes) -> ObjectMeta:
    """What every object has, readable or not.

    Raises:
        UnreadableError: it is no object at all.
    """
    return codec.decode(item, PartialObject).metadata
