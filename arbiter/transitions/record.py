"""What must survive a crash of the engine's shell: per container, what it may hold; with a versioned JSON codec.

Imports the core's identifiers and the standard library.
"""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

from arbiter.ids import GpuUuid, PodUid

VERSION = 1

MAX_PROMISES = 16
"""Shrinks that a container has not confirmed; the ones between the first and the newest are dropped beyond it."""


class InvalidRecordError(ValueError):
    """A saved record that cannot be read; the text says what is wrong with it."""


class Size(NamedTuple):
    """A quality 0..1 and the bytes per GPU that go with it."""

    quality: Fraction
    vram: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A size that a container was told (or was about to be told), at which revision, and when (s)."""

    revision: int
    size: Size
    at: float

    @property
    def quality(self) -> Fraction:
        """Of its size."""
        return self.size.quality

    @property
    def vram(self) -> int:
        """Bytes per GPU of its size."""
        return self.size.vram


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One container's memory on disk. Nothing is published before the record that promises it is saved.

    `promises` are the sizes that the container may still hold, from the last confirmed one on; the first is larger
    than each that follows, so it is what the container may hold, and every later one is a shrink to be confirmed.
    While the container is down (`released_at` is None) the only one is what stays reserved for its next start.

    `start` numbers the container's starts, `revision` is the last one used, `acknowledged` the highest that this
    start acknowledged (0: none) and `applied` its bytes. `late` says that a shrink was not confirmed within its grace.
    `restored_until` is the token bucket of grows: the time at which it is full again.
    """

    uid: PodUid
    name: str = ""
    gpus: tuple[GpuUuid, ...] = ()
    start: int = 0
    released_at: float | None = None
    revision: int = 0
    promises: tuple[Promise, ...] = ()
    acknowledged: int = 0
    applied: int | None = None
    late: bool = False
    restored_until: float = 0.0

    @property
    def may_hold(self) -> int:
        """The most bytes per GPU that the container may hold, or that are reserved for it while it is down."""
        return self.promises[0].vram if self.promises else 0

    @property
    def granted(self) -> Promise | None:
        """The newest promise."""
        return self.promises[-1] if self.promises else None

    @property
    def shrinking_since(self) -> float | None:
        """When the oldest unconfirmed shrink was promised; None where none is due."""
        return self.promises[1].at if len(self.promises) > 1 else None

    def promise(self, *, size: Size, now: float) -> "Record":
        """The record with one more promise, at the next revision."""
        newest = Promise(revision=self.revision + 1, size=size, at=now)
        promises = _from_largest((*self.promises, newest))
        if len(promises) > MAX_PROMISES:
            promises = promises[:2] + promises[3:]  # the first two say how much, and since when
        return replace(self, revision=newest.revision, promises=promises)

    def confirm(self, revision: int) -> "Record":
        """The record once the container holds no more than it was promised at `revision` and since."""
        return replace(self, promises=_from_largest(tuple(p for p in self.promises if p.revision >= revision)))

    def stop(self, *, keep: bool) -> "Record":
        """The record once the container's start has ended; its last grant stays reserved where `keep` says so."""
        if self.released_at is None and (keep or not self.promises):
            return self
        return replace(
            self,
            released_at=None,
            promises=self.promises[-1:] if keep else (),
            acknowledged=0,
            applied=None,
            late=False,
        )

    def not_after(self, now: float) -> "Record":
        """The record with no time in the future, for a clock that was set back while nobody was looking."""
        return replace(
            self,
            released_at=None if self.released_at is None else min(self.released_at, now),
            promises=tuple(replace(promise, at=min(promise.at, now)) for promise in self.promises),
        )


def _from_largest(promises: tuple[Promise, ...]) -> tuple[Promise, ...]:
    largest = max((promise.vram for promise in promises), default=0)
    start = max((index for index, promise in enumerate(promises) if promise.vram == largest), default=0)
    return promises[start:]


def encode(record: Record) -> str:
    """One line of JSON."""
    return json.dumps(
        {
            "version": VERSION,
            "uid": record.uid,
            "name": record.name,
            "gpus": record.gpus,
            "start": record.start,
            "releasedAt": record.released_at,
            "revision": record.revision,
            "promises": [
                {"revision": p.revision, "quality": str(p.quality), "vram": p.vram, "at": p.at} for p in record.promises
            ],
            "acknowledged": record.acknowledged,
            "applied": record.applied,
            "late": record.late,
            "restoredUntil": record.restored_until,
        }
    )


def decode(text: str) -> Record:
    """The record that `encode` wrote.

    Raises:
        InvalidRecordError: the text is no record of this version.
    """
    try:
        data = json.loads(text)
        version = data["version"]
        if version == VERSION:
            return _record(data)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRecordError(f"record cannot be read: {error!r}") from error
    raise InvalidRecordError(f"record has version {version}, this engine reads version {VERSION}")


def _record(data: dict[str, Any]) -> Record:
    return Record(
        uid=PodUid(data["uid"]),
        name=data["name"],
        gpus=tuple(GpuUuid(gpu) for gpu in data["gpus"]),
        start=data["start"],
        released_at=data["releasedAt"],
        revision=data["revision"],
        promises=tuple(
            Promise(revision=p["revision"], size=Size(Fraction(p["quality"]), p["vram"]), at=p["at"])
            for p in data["promises"]
        ),
        acknowledged=data["acknowledged"],
        applied=data["applied"],
        late=data["late"],
        restored_until=data["restoredUntil"],
    )
