"""Kubernetes events about objects: what people see in `kubectl describe`. Recording never waits and never fails.

Repetitions of one sentence about one object become one event with a count; a token bucket spares the API server, and
namespaces take turns.
"""

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from arbiter_kube.api.objects import Event, EventSource, ObjectMeta, ObjectReference
from arbiter_kube.api.resources import EVENTS, Resource
from arbiter_kube.client.backlog import Backlog
from arbiter_kube.client.bucket import TokenBucket
from arbiter_kube.client.client import KubeClient
from arbiter_kube.client.errors import KubeError, NotFound

_log = logging.getLogger(__name__)

_MESSAGE_BYTES = 1024  # the API server's limit

_NAME_LENGTH = 230  # of an object's name in its event's, so that 253 is not passed


class EventType(StrEnum):
    """Whether something is as it should be."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is told: one sentence about one object. `reason` is one CamelCase word."""

    about: ObjectReference
    type: EventType
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """The event that stands for a notice, and how often it was told."""

    name: str
    count: int


class Identity(Protocol):
    """What names an object: the metadata of Structs and of pydantic models alike."""

    @property
    def namespace(self) -> str: ...  # noqa: D102 - the API's field
    @property
    def name(self) -> str: ...  # noqa: D102 - the API's field
    @property
    def uid(self) -> str: ...  # noqa: D102 - the API's field


def reference(resource: Resource[object], metadata: Identity) -> ObjectReference:
    """The reference to an object: ``reference(PODS, pod.metadata)``."""
    return ObjectReference(
        api_version=resource.api_version,
        kind=resource.kind,
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
    )


class EventRecorder:
    """Keeps `run()` going in a task of its own; what is recorded before or after is kept, up to `capacity` notices."""

    def __init__(
        self,
        client: KubeClient,
        *,
        component: str,
        rate: float = 5.0,
        burst: int = 25,
        capacity: int = 1000,
        may_tell: Callable[[], bool] = lambda: True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`component` is who reports; `rate` events a second after the first `burst`.

        `may_tell` says whether what happens is this process's to tell: of several replicas one tells.
        """
        self._client = client
        self._component = component
        self._rate, self._burst = rate, burst
        self._capacity = capacity
        self._may_tell = may_tell
        self._clock = clock
        self._pending = Backlog[Notice](capacity=capacity)
        self._series: OrderedDict[Notice, _Series] = OrderedDict()
        self._something = asyncio.Event()
        self.dropped = 0
        self._told_of_dropped = 0

    def record(self, notice: Notice) -> None:
        """Takes a notice to be written later; where too many wait, one is forgotten and counted in `dropped`."""
        if not self._may_tell():
            return
        if not self._pending.put(notice, owner=notice.about.namespace):
            self.dropped += 1
        self._something.set()

    async def run(self) -> None:
        """Writes what was recorded, until it is cancelled."""
        clock = asyncio.get_running_loop().time
        bucket = TokenBucket(rate=self._rate, burst=self._burst, now=clock())
        while True:
            await self._something.wait()
            await asyncio.sleep(bucket.take(clock()))
            notice, count = self._pending.take()
            if not self._pending:
                self._something.clear()
                self._tell_of_dropped()
            try:
                await self._write(notice, count)
            except KubeError as error:
                _log.warning("event lost reason=%s object=%s error=%s", notice.reason, notice.about.name, error)

    def _tell_of_dropped(self) -> None:
        """Once for each flood, when it is over."""
        if self.dropped > self._told_of_dropped:
            _log.warning("events dropped count=%d", self.dropped - self._told_of_dropped)
            self._told_of_dropped = self.dropped

    async def _write(self, notice: Notice, count: int) -> None:
        known = self._series.get(notice)
        series = await self._repeat(notice, known, count) if known else None
        self._series[notice] = series or await self._create(notice, count)
        self._series.move_to_end(notice)
        if len(self._series) > self._capacity:
            self._series.popitem(last=False)

    async def _repeat(self, notice: Notice, known: _Series, count: int) -> _Series | None:
        """Counts the event up; None where it is gone, since events live for an hour."""
        series = _Series(name=known.name, count=known.count + count)
        change = Event(count=series.count, last_timestamp=self._now())
        try:
            await self._client.patch(EVENTS, known.name, change, namespace=_namespace(notice.about))
        except NotFound:
            return None
        return series

    async def _create(self, notice: Notice, count: int) -> _Series:
        name = f"{notice.about.name[:_NAME_LENGTH]}.{secrets.token_hex(8)}"
        now = self._now()
        event = Event(
            metadata=ObjectMeta(name=name, namespace=_namespace(notice.about)),
            involved_object=notice.about,
            type=notice.type,
            reason=notice.reason,
            message=notice.message.encode()[:_MESSAGE_BYTES].decode(errors="ignore"),
            count=count,
            first_timestamp=now,
            last_timestamp=now,
            source=EventSource(component=self._component),
            reporting_component=self._component,
        )
        await self._client.create(EVENTS, event, namespace=_namespace(notice.about))
        return _Series(name=name, count=count)

    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)


def _namespace(about: ObjectReference) -> str:
    # Where kubectl describe looks for events of objects that have no namespace.
    return about.namespace or "default"
