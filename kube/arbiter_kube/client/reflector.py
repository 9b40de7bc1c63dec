"""A live copy of one kind of objects: list, then watch, for ever, whatever happens to the connection.

Unlike kopf's index it tells of objects that were deleted while nobody watched, and notices a watch that died silently.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar, overload

import msgspec

from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.resources import Resource
from arbiter_kube.client import codec
from arbiter_kube.client.backoff import Backoff
from arbiter_kube.client.client import KubeClient, Page, Selection
from arbiter_kube.client.errors import ApiError, KubeError, Unreachable, api_error
from arbiter_kube.client.store import Applied, Change, Deleted, Staged, Store, Synced, identity_of
from arbiter_kube.client.turns import Turns

T = TypeVar("T")
Whole = TypeVar("Whole")

_log = logging.getLogger(__name__)

ReflectorEvent = Applied[T] | Deleted[T] | Synced


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectorTiming:
    """How a reflector deals with time (s) and with long lists."""

    page_size: int = 500
    list_timeout: float = 30.0
    """For one page."""
    watch_lasting: float = 300.0
    """The API server ends a watch after this long; it is continued where it ended."""
    idle: float = 90.0
    """Silence that counts as a lost connection: bookmarks come about once a minute."""
    backoff_first: float = 0.5
    backoff_ceiling: float = 10.0


DEFAULT_TIMING = ReflectorTiming()


class _LineType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


class _Line(msgspec.Struct):
    type: _LineType
    object: msgspec.Raw


class Reflector(Generic[T]):
    """Iterate over it, once and for ever: `async for event in reflector`. It ends with the task that iterates.

    `Synced` comes after every complete list; `synced` is set from the first one on. `objects` is the live copy, by
    namespace and name, already up to date with the event being handled. Nothing is fetched faster than events are
    taken, so a consumer must not wait long.

    With `keep`, what it makes of each object is kept and told in the object's place; None where that is nothing.
    """

    @overload
    def __init__(
        self,
        client: KubeClient,
        resource: Resource[T],
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timing: ReflectorTiming = DEFAULT_TIMING,
    ) -> None: ...

    @overload
    def __init__(
        self,
        client: KubeClient,
        resource: Resource[Whole],
        *,
        keep: Callable[[Whole], T | None],
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timing: ReflectorTiming = DEFAULT_TIMING,
    ) -> None: ...

    def __init__(
        self,
        client: KubeClient,
        resource: Resource[Any],
        *,
        keep: Callable[[Any], T | None] | None = None,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timing: ReflectorTiming = DEFAULT_TIMING,
    ) -> None:
        self._client = client
        self._resource = resource
        self._selection = Selection(namespace=namespace, label_selector=label_selector, field_selector=field_selector)
        self._timing = timing
        self._store: Store[T] = Store(_reader(resource, keep))
        self._version: str | None = None
        self._heard_at: float | None = None
        self.synced = asyncio.Event()

    @property
    def objects(self) -> Mapping[ObjectKey, T]:
        """The live copy; empty until synced."""
        return self._store.objects

    @property
    def unreadable(self) -> int:
        """How many times an object could not be decoded and was skipped."""
        return self._store.unreadable

    def age(self) -> float:
        """Seconds since the API server was last heard on this (a list, an event, a bookmark); infinite before."""
        return float("inf") if self._heard_at is None else asyncio.get_running_loop().time() - self._heard_at

    async def __aiter__(self) -> AsyncIterator[ReflectorEvent[T]]:
        backoff = Backoff(first=self._timing.backoff_first, ceiling=self._timing.backoff_ceiling)
        while True:
            before = self._heard_at
            try:
                if self._version is None:
                    async with aclosing(self._list()) as changes:
                        async for change in changes:
                            yield change
                    self.synced.set()
                    yield Synced()
                    before = self._heard_at  # a list is no sign that watching works
                async with aclosing(self._watch()) as changes:
                    async for change in changes:
                        yield change
                failed = False
            except KubeError as error:
                failed = True
                self._note(error)
            # A watch that ends as agreed is continued at once, but never one that ends before it said anything.
            if self._heard_at != before:
                backoff.reset()
            if failed or self._heard_at == before:
                await asyncio.sleep(backoff.next())

    async def applying(self, *, applied: Callable[[T], None], deleted: Callable[[T], None]) -> AsyncIterator[None]:
        """Hands each object to whoever keeps them, and yields after each event, the end of a list among them."""
        async for event in self:
            match event:
                case Applied(object=thing):
                    applied(thing)
                case Deleted(object=thing):
                    deleted(thing)
            yield

    def _note(self, error: KubeError) -> None:
        may_continue = isinstance(error, Unreachable) or (isinstance(error, ApiError) and error.is_transient)
        if not may_continue:
            # 410 above all, but nothing else either is mended by asking for the same version again.
            self._version = None
        _log.warning("watch interrupted resource=%s error=%s", self._resource.plural, error)

    def _heard(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()

    async def _list(self) -> AsyncGenerator[Change[T]]:
        """Everything is read before anything is told, since a deletion can only be told from a complete list."""
        staged: list[Staged[T]] = []
        turns = Turns()
        async for page in self._pages():
            version = page.metadata.resource_version
            for item in page.items or ():
                staged.append(self._store.stage(item))
                await turns.give_way()
        for change in self._store.keep_only({each.key for each in staged}):
            yield change
        for each in staged:
            for change in self._store.take(each):
                yield change
            await turns.give_way()
        self._version = version

    async def _pages(self) -> AsyncGenerator[Page]:
        token: str | None = ""
        while token is not None:
            page = await self._client.page(
                self._resource,
                self._selection,
                limit=self._timing.page_size,
                token=token,
                within=self._timing.list_timeout,
            )
            self._heard()
            yield page
            token = page.metadata.token or None

    async def _watch(self) -> AsyncGenerator[Change[T]]:
        lines = self._client.watch(
            self._resource,
            self._selection,
            resource_version=self._version or "",
            lasting=self._timing.watch_lasting,
            idle=self._timing.idle,
        )
        turns = Turns()
        async with aclosing(lines):
            async for text in lines:
                line = codec.decode(text, _Line)
                for change in self._take(line):
                    yield change
                await turns.give_way()

    def _take(self, line: _Line) -> list[Change[T]]:
        if line.type is _LineType.ERROR:
            raise api_error(action=f"watch {self._resource.plural}", status=0, body=line.object)
        self._heard()
        self._version = identity_of(line.object).resource_version
        if line.type is _LineType.BOOKMARK:
            return []
        if line.type is _LineType.DELETED:
            return self._store.delete(line.object)
        return self._store.take(self._store.stage(line.object))


def _reader(resource: Resource[Any], keep: Callable[[Any], T | None] | None) -> Callable[[bytes], T | None]:
    if keep is None:
        return lambda item: codec.decode(item, resource.model)
    return lambda item: keep(codec.decode(item, resource.model))
