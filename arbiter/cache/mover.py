"""Carries fragments into, between and out of the tiers' stores, as the index decides.

The only code that does both: it asks the index under the lock and moves bytes outside of it, so that readers of what is
there never wait for a disk. Room is made by one thread per tier at a time, from the upper tiers to the lower.

Imports the standard library only.
"""

import logging
import resource
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from arbiter.cache.errors import (
    CacheClosedError,
    DamagedFragmentError,
    FragmentInUseError,
    FragmentTooLargeError,
    StoreError,
    TierFullError,
    UnknownFragmentError,
)
from arbiter.cache.fragment import CacheTier, Fragment, FragmentId
from arbiter.cache.index import CacheIndex, Victim
from arbiter.cache.store import Content, TierStore, Writer

_log = logging.getLogger(__name__)

_PIECE = 1 << 20
"""Bytes that are copied at a time."""

NO_ROOM = (FragmentTooLargeError, TierFullError, StoreError)
"""Why a tier does not take a fragment that another tier may still take."""


class Mover:
    """Works on `index` under `lock`, and keeps contents open for readers to come."""

    def __init__(self, *, index: CacheIndex, stores: Mapping[CacheTier, TierStore], lock: threading.Lock) -> None:
        self._index = index
        self._stores = stores
        self._lock = lock
        self._changed = threading.Condition(lock)
        self._most_open = _most_open()
        self._open: OrderedDict[tuple[CacheTier, FragmentId], Content] = OrderedDict()
        # Always taken from the upper tiers to the lower; reentrant, for what takes all of them and then makes room.
        self._rooms = {tier: threading.RLock() for tier in index.tiers}
        self._closed = False

    # Readers (called with the lock held)

    def lease_if_open(self, fragment: FragmentId, tier: CacheTier) -> Content | None:
        """The content of a copy that is open already, leased once more; one that was tampered with is closed."""
        content = self._open.get((tier, fragment))
        if content is None:
            return None
        if not content.is_intact():
            del self._open[tier, fragment]
            return None
        self._open.move_to_end((tier, fragment))
        self._index.lease(fragment, tier)
        return content

    def release(self, fragment: FragmentId, tier: CacheTier) -> None:
        """Give one lease back."""
        self._index.release(fragment, tier)
        self._changed.notify_all()

    # Everything below is called without the lock

    def find_again(self) -> None:
        """Take up what an earlier process left, the newest first while it fits; it is checked when it is read."""
        for tier, store in self._stores.items():
            kept = []
            for fragment in reversed(store.scan()):
                known = self._index.fragment(fragment.id)
                if fragment.size <= self._index.room(tier) and (known is None or known.size == fragment.size):
                    self._index.reserve(fragment, tier)
                    kept.append(fragment)
                else:
                    store.delete(fragment.id)
            for fragment in reversed(kept):  # the eviction order starts with the oldest
                self._index.commit(fragment.id, tier)

    def open(self, fragment: Fragment, tier: CacheTier) -> Content:
        """The content of a copy that the caller has leased, kept open. Raises DamagedFragmentError, StoreError."""
        content = self._stores[tier].open(fragment)
        with self._lock:
            self._open[tier, fragment.id] = content
            if len(self._open) > self._most_open:
                self._open.popitem(last=False)
        return content

    def write(
        self, fragment: Fragment, tier: CacheTier, pour: Callable[[Writer], None], *, patience: float = 0.0
    ) -> None:
        """Make room, have `pour` write the bytes, and leave the new copy leased once; also if there is one already.

        Raises:
            FragmentTooLargeError, TierFullError: there is no room, also not within `patience` seconds.
            StoreError: the store failed.
        """
        if not self._reserve(fragment, tier, patience=patience):
            return
        try:
            writer = self._stores[tier].create(fragment)
            try:
                pour(writer)
                writer.commit()
            except BaseException:
                writer.abort()
                raise
        except BaseException:
            with self._lock:
                self._index.abort(fragment.id, tier)
                self._changed.notify_all()
            raise
        with self._lock:
            self._index.commit(fragment.id, tier)
            self._index.lease(fragment.id, tier)
            self._changed.notify_all()

    def copy(self, fragment: Fragment, content: Content, *, target: CacheTier, patience: float = 0.0) -> None:
        """`write` from another tier's content."""
        self.write(fragment, target, lambda writer: self._pour(content, writer, into=target), patience=patience)

    def demote(self, fragment: FragmentId) -> None:
        """Make the highest copy leave its tier; the next lower one takes it unless a lower one has it.

        Raises:
            UnknownFragmentError: no tier has it.
            FragmentInUseError: a reader holds it.
            CacheClosedError: the stores are closed.
        """
        with self._all_rooms():
            self.check_open()
            with self._lock:
                tier = next(iter(self._index.copies(fragment)), None)
                if tier is None:
                    raise UnknownFragmentError(f"no tier holds fragment {fragment}.")
                if self._index.is_busy(fragment):
                    raise FragmentInUseError(f"fragment {fragment} is held by readers or on its way between tiers.")
                victim = self._index.victim(fragment, tier)
                self._index.lease(fragment, tier)
            if not self._evict(victim):
                raise FragmentInUseError(f"fragment {fragment} was taken by a reader meanwhile.")

    def discard(self, fragment: FragmentId, tier: CacheTier) -> None:
        """Throw away a damaged copy that the caller alone has leased. Raises FragmentInUseError, StoreError."""
        with self._rooms[tier]:
            with self._lock:
                self.release(fragment, tier)
                self._start_leaving(fragment, tier)
            self._finish_leaving(fragment, tier)

    def remove(self, fragment: FragmentId) -> bool:
        """Throw all copies away; whether there were any. Raises FragmentInUseError, StoreError, CacheClosedError."""
        with self._all_rooms():
            self.check_open()
            with self._lock:
                if self._index.is_busy(fragment):
                    raise FragmentInUseError(f"fragment {fragment} is held by readers or on its way between tiers.")
                tiers = self._index.copies(fragment)
                for tier in tiers:
                    self._start_leaving(fragment, tier)
            problems = []
            for tier in tiers:
                try:
                    self._finish_leaving(fragment, tier)
                except StoreError as problem:  # the other copies go all the same
                    problems.append(problem)
            if problems:
                raise problems[0]
            return bool(tiers)

    def check_open(self) -> None:
        """Raises CacheClosedError once the stores are closed: what lies in their directories may be another's then."""
        if self._closed:
            raise CacheClosedError("the cache is closed; nothing in it can be moved or thrown away.")

    def close(self) -> None:
        """Close the stores once nobody moves anything between them."""
        with self._all_rooms(), ExitStack() as rest:
            self._closed = True
            for store in self._stores.values():
                rest.callback(store.close)  # also where another one fails

    @contextmanager
    def _all_rooms(self) -> Iterator[None]:
        """Nobody makes room or moves anything out meanwhile."""
        with ExitStack() as stack:
            for tier in self._index.tiers:
                stack.enter_context(self._rooms[tier])
            yield

    def _reserve(self, fragment: Fragment, tier: CacheTier, *, patience: float) -> bool:
        """Whether the tier's bytes are reserved now; if not, it has the fragment already, which is leased then."""
        deadline = time.monotonic() + patience
        while True:
            try:
                with self._rooms[tier]:
                    return self._make_room(fragment, tier)
            except TierFullError:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
            with self._lock:
                self._changed.wait_for(lambda: self._may_fit(fragment, tier), left)

    def _make_room(self, fragment: Fragment, tier: CacheTier) -> bool:
        while True:
            with self._lock:
                # Somebody may be moving it down to here for room above; that waits for nothing that is held here.
                self._changed.wait_for(lambda: not self._index.is_coming(fragment.id, tier))
                if tier in self._index.copies(fragment.id):
                    self._index.lease(fragment.id, tier)
                    return False
                victim = self._index.next_victim(tier, fragment.size)
                if victim is None:
                    self._index.reserve(fragment, tier)
                    return True
                self._index.lease(victim.fragment.id, tier)
            if self._evict(victim):
                with self._lock:
                    self._index.count_eviction(victim)

    def _may_fit(self, fragment: Fragment, tier: CacheTier) -> bool:
        try:
            self._index.next_victim(tier, fragment.size)
        except TierFullError:
            return False
        return True

    def _evict(self, victim: Victim) -> bool:
        """Whether the copy, which the caller has leased, left its tier; not if a reader came meanwhile."""
        fragment, tier = victim.fragment.id, victim.tier
        try:
            self._demote(victim)
        finally:
            with self._lock:
                self.release(fragment, tier)
                may_leave = not self._index.is_leased(fragment, tier)
                if may_leave:
                    self._start_leaving(fragment, tier)
        if may_leave:
            self._finish_leaving(fragment, tier)
        return may_leave

    def _demote(self, victim: Victim) -> None:
        """Copy it to the first lower tier that takes it; a fragment that none takes is lost to this machine."""
        if not victim.lower:
            return
        try:
            content = self._stores[victim.tier].open(victim.fragment)
        except (DamagedFragmentError, StoreError) as problem:
            _log.warning("fragment %s is not demoted: %s", victim.fragment.id, problem)
            return
        for lower in victim.lower:
            try:
                self.copy(victim.fragment, content, target=lower)
            except NO_ROOM as problem:
                _log.info("fragment %s is not demoted to %s: %s", victim.fragment.id, lower, problem)
            else:
                with self._lock:
                    self.release(victim.fragment.id, lower)
                return

    def _pour(self, content: Content, writer: Writer, *, into: CacheTier) -> None:
        if not self._stores[into].holds_bytes:
            return
        buffer, offset = memoryview(bytearray(_PIECE)), 0
        while size := content.read_into(buffer, offset):
            writer.write(buffer[:size])
            offset += size

    def _start_leaving(self, fragment: FragmentId, tier: CacheTier) -> None:
        self._index.start_leaving(fragment, tier)
        self._open.pop((tier, fragment), None)

    def _finish_leaving(self, fragment: FragmentId, tier: CacheTier) -> None:
        try:
            self._stores[tier].delete(fragment)
        except StoreError:
            with self._lock:
                self._index.stay(fragment, tier)
            raise
        with self._lock:
            self._index.finish_leaving(fragment, tier)
            self._changed.notify_all()


def _most_open() -> int:
    """Contents that may be kept open: each takes two descriptors, and half of those of this process are its own."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(limit // 4, 16384) if limit > 0 else 16384
