"""The objects that a list and a watch tell of, and what changed between two lists. Pure: no I/O, no clock."""

import logging
from collections.abc import Callable, Set
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, NamedTuple, TypeVar

import msgspec

from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.client import codec

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


class _Unchanged(Enum):
    """Why there is nothing to keep of what came."""

    KNOWN = auto()
    UNREADABLE = auto()
    NOT_OURS = auto()


class Staged(NamedTuple, Generic[T]):
    """One object that was read and not yet taken in."""

    key: ObjectKey
    version: _Version
    object: T | _Unchanged


class Store(Generic[T]):
    """What is kept of objects, by namespace and name.

    `read` makes it of an object's JSON; where it makes None, the object is none of ours and nothing of it is kept. One
    that it cannot read, whatever it raises, is logged, counted in `unreadable` and keeps its last readable form.
    """

    def __init__(self, read: Callable[[bytes], T | None]) -> None:
        self._read = read
        self._versions: dict[ObjectKey, _Version] = {}
        self.objects: dict[ObjectKey, T] = {}
        self.unreadable = 0

    def keep_only(self, keys: Set[ObjectKey]) -> list[Change[T]]:
        """Takes out every object that a complete list did not name."""
        return [change for key in sorted(self._versions.keys() - keys) for change in self._forget(key)]

    def stage(self, item: bytes) -> Staged[T]:
        """Reads one listed, added or modified object; one of the version that is known is not read again."""
        identity = identity_of(item)
        key, version = identity.key, _Version(identity.uid, identity.resource_version)
        if self._versions.get(key) == version:
            return Staged(key, version, _Unchanged.KNOWN)
        return Staged(key, version, self._kept(key, item))

    def take(self, staged: Staged[T]) -> list[Change[T]]:
        """Takes in what was read."""
        key, version, kept = staged
        if kept is _Unchanged.KNOWN:
            return []
        if kept is _Unchanged.NOT_OURS:
            return self._forget(key) if key in self._versions else []
        known = self._versions.get(key)
        # Re-created under its name while nobody watched: whoever counts by uid must hear of the end of the first.
        changes = self._forget(key) if known is not None and known.uid != version.uid else []
        self._versions[key] = version
        if not isinstance(kept, _Unchanged):
            self.objects[key] = kept
            changes.append(Applied(kept))
        return changes

    def delete(self, item: bytes) -> list[Change[T]]:
        """Takes one object out; it is told as it was at its end, where that can be read."""
        key = identity_of(item).key
        self._versions.pop(key, None)
        before = self.objects.pop(key, None)
        last = self._kept(key, item)
        if isinstance(last, _Unchanged):
            return [] if before is None else [Deleted(before)]
        return [Deleted(last)]

    def _forget(self, key: ObjectKey) -> list[Change[T]]:
        del self._versions[key]
        return [Deleted(self.objects.pop(key))] if key in self.objects else []

    def _kept(self, key: ObjectKey, item: bytes) -> T | _Unchanged:
        try:
            kept = self._read(item)
        except Exception as error:  # one object, which is anybody's, must not end the copy of all others
            self.unreadable += 1
            _log.warning("object skipped object=%s error=%s", key, error)
            return _Unchanged.UNREADABLE
        return _Unchanged.NOT_OURS if kept is None else kept


class Identity(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Which object, and which version of it."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return ObjectKey(self.namespace, self.name)


class _Identified(msgspec.Struct, frozen=True, gc=False):
    metadata: Identity = Identity()


def identity_of(item: bytes) -> Identity:
    """What every object has, readable or not.

    Raises:
        UnreadableError: it is no object at all.
    """
    return codec.decode(item, _Identified).metadata
