"""`FragmentCache`: the tiers of one machine as one cache, for threads and for asyncio.

A thin shell: `index` decides, `mover` carries bytes, `readers` get their leases. Imports the standard library only.
"""

import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from types import TracebackType

from arbiter.cache.arguments import fragment_of, id_of, user_of, wait_of
from arbiter.cache.config import CacheConfig, config_of, open_source, open_stores
from arbiter.cache.errors import CacheConfigError, FragmentInUseError, NoBytesError, UnknownFragmentError
from arbiter.cache.fragment import BytesLike, CacheTier, Fragment, FragmentId
from arbiter.cache.index import CacheIndex, TierLimits
from arbiter.cache.lease import Lease
from arbiter.cache.mover import Mover
from arbiter.cache.readers import Readers
from arbiter.cache.stats import CacheStats
from arbiter.cache.store import Source, TierStore
from arbiter.cache.transfers import Transfers
from arbiter.workload import WorkloadType


class FragmentCache:
    """Fragments in VRAM, RAM and on NVMe, fetched from a CDN; all methods are safe from any thread.

    Not from signal handlers nor `__del__`, though, and neither is a lease's `release`: these come in the midst of
    another call.

    Args:
        config: sizes and places; the default accounts for 10 GiB of VRAM and keeps 32 GiB in shared memory.
        stores: what keeps a tier's bytes, where it is not what `config` names. VRAM is only accounted for by default.
        source: where fragments come from that no tier has, instead of the CDN that `config` names.

    Raises:
        CacheConfigError: the NVMe tier has a size and no directory.
        StoreError: a directory cannot be used, or there is no thread to be had.
    """

    def __init__(
        self,
        config: CacheConfig | None = None,
        *,
        stores: Mapping[CacheTier, TierStore] | None = None,
        source: Source | None = None,
    ) -> None:
        config = CacheConfig() if config is None else config_of(config)
        self._lock = threading.Lock()
        with ExitStack() as opened:  # closed again where one of the next steps fails
            self._stores = open_stores(config, stores or {}, opened)
            self._source = source or open_source(config, opened)
            self._index = CacheIndex(
                {
                    tier: TierLimits(capacity=config.capacities[tier], holds_bytes=store.holds_bytes)
                    for tier, store in self._stores.items()
                }
            )
            self._mover = Mover(index=self._index, stores=self._stores, lock=self._lock)
            self._mover.find_again()
            opened.pop_all()
        self._transfers = Transfers(
            index=self._index,
            mover=self._mover,
            stores=self._stores,
            source=self._source,
            lock=self._lock,
            room_timeout=min(config.room_timeout, threading.TIMEOUT_MAX),
        )
        self._readers = Readers(
            index=self._index,
            mover=self._mover,
            transfers=self._transfers,
            tiers=self._stores,
            lock=self._lock,
            parallel=config.parallel_transfers,
        )

    def __enter__(self) -> "FragmentCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The index

    def __contains__(self, fragment: FragmentId | Fragment) -> bool:
        return self.tier_of(fragment) is not None

    def tier_of(self, fragment: FragmentId | Fragment) -> CacheTier | None:
        """The highest tier that holds it; None if none does."""
        with self._lock:
            return next(iter(self._index.copies(id_of(fragment))), None)

    def access(
        self, fragment: FragmentId | Fragment, *, workload_type: WorkloadType | str | None = None
    ) -> CacheTier | None:
        """Count a use by somebody who has the bytes already: a hit in the tier that is returned, or a miss."""
        with self._lock:
            return self._index.access(id_of(fragment), user_of(workload_type))

    def mark_shared(self, fragment: FragmentId | Fragment) -> None:
        """Both systems use it; it is evicted after those that one uses. Uses by both mark it by themselves.

        Raises:
            UnknownFragmentError: no tier holds it.
        """
        with self._lock:
            self._index.mark_shared(id_of(fragment))

    def stats(self) -> CacheStats:
        """The figures of this instant."""
        with self._lock:
            return CacheStats(
                tiers=self._index.stats(),
                fragments=len(self._index),
                misses=self._index.misses,
                downloads=self._transfers.counts.downloads,
                downloaded_bytes=self._transfers.counts.downloaded_bytes,
                damaged=self._transfers.counts.damaged,
            )

    # Reading

    def open(
        self,
        fragment: Fragment,
        *,
        into: CacheTier = CacheTier.RAM,
        workload_type: WorkloadType | str | None = None,
        timeout: float | None = None,
    ) -> Lease:
        """A lease on the fragment in `into`, brought there from where it is and fetched if it is nowhere.

        Where that tier has no room for it, the lease is on the tier below; `Lease.tier` says where. Readers that ask
        at the same time share one transfer.

        Args:
            into: RAM; NVMe for what is read once and is not worth RAM (a copy in RAM serves too); VRAM.
            workload_type: who reads, or its name: a fragment that both systems read is evicted last.
            timeout: seconds; by default as long as the transfer's own limits.

        Raises:
            FragmentUnavailableError: it is nowhere and cannot be fetched or kept, or not within the time.
            FragmentInUseError: the copy here is damaged, and other readers hold it.
            InvalidFragmentError: it has another size, or is no fragment.
            StoreError: a store failed, or there is no thread to be had.
            CacheConfigError: there is no such tier, workload type or time.
            CacheClosedError: the cache is closed.
        """
        if timeout is not None:
            timeout = wait_of(timeout, what="timeout")
        reader = self._readers.reader(fragment, into=into, workload_type=workload_type)
        return self._readers.open(reader, timeout=timeout)

    async def aopen(
        self,
        fragment: Fragment,
        *,
        into: CacheTier = CacheTier.RAM,
        workload_type: WorkloadType | str | None = None,
    ) -> Lease:
        """`open` for asyncio: it never blocks the event loop, and cancelling it leaves other readers alone."""
        return await self._readers.aopen(self._readers.reader(fragment, into=into, workload_type=workload_type))

    # Moving

    def insert(
        self,
        fragment: Fragment,
        content: BytesLike | None = None,
        *,
        tier: CacheTier = CacheTier.RAM,
        workload_type: WorkloadType | str | None = None,
    ) -> None:
        """Put it into a tier. The same fragment again changes nothing; another size replaces what was accounted for.

        Args:
            content: its bytes; none for a tier that only accounts for them.

        Raises:
            DamagedFragmentError: the content is not what the id says.
            NoBytesError: the tier keeps bytes and none were given.
            FragmentTooLargeError: it is larger than the tier.
            TierFullError: readers hold what fills the tier.
            FragmentInUseError: it is to be replaced and readers hold it.
            StoreError, InvalidFragmentError, CacheConfigError, CacheClosedError: as they say.
        """
        fragment_of(fragment)
        user = user_of(workload_type)
        store = self._store(tier)
        if content is None and store.holds_bytes:
            raise NoBytesError(f"the {tier} tier keeps bytes; give the content of fragment {fragment.id}.")
        with self._lock:
            known = self._index.fragment(fragment.id)
        if known and known.size != fragment.size:
            self.remove(fragment.id)
        self._readers.perform(
            fragment,
            into=tier,
            user=user,
            job=lambda: self._transfers.take_in(fragment, content, into=tier),
        )

    def remove(self, fragment: FragmentId | Fragment) -> bool:
        """Throw it out of every tier; whether any had it.

        Raises:
            FragmentInUseError: readers hold it, or it is on its way.
            StoreError: a store failed.
            CacheClosedError: the cache is closed; its directories may be another's by now.
        """
        return self._mover.remove(id_of(fragment))

    def promote(self, fragment: FragmentId | Fragment) -> CacheTier:
        """Copy it to the next higher tier, which makes room for it; the tier that it is in then.

        The lower copy stays until its tier needs the room.

        Raises:
            UnknownFragmentError: no tier holds it.
            FragmentTooLargeError, TierFullError, NoBytesError, StoreError: the higher tier does not take it.
            CacheClosedError: the cache is closed.
        """
        with self._lock:
            known = self._index.fragment(id_of(fragment))
            highest = next(iter(self._index.copies(id_of(fragment))), None)
        if known is None or highest is None:
            raise UnknownFragmentError(f"no tier holds fragment {id_of(fragment)}.")
        target = self._index.tiers[max(0, self._index.tiers.index(highest) - 1)]
        if target is not highest:
            self._readers.perform(known, into=target, user=None, job=lambda: self._transfers.lift(known, into=target))
        return target

    def demote(self, fragment: FragmentId | Fragment) -> CacheTier | None:
        """Move it out of its highest tier, to the next one that takes it; where it is then, None if no longer here.

        Raises:
            UnknownFragmentError: no tier holds it.
            FragmentInUseError: readers hold it.
            CacheClosedError: the cache is closed.
        """
        self._mover.demote(id_of(fragment))
        return self.tier_of(fragment)

    def clear(self) -> None:
        """Throw out everything that nobody holds. Raises CacheClosedError, StoreError."""
        self._mover.check_open()
        with self._lock:
            fragments = list(self._index)
        for fragment in fragments:
            with suppress(FragmentInUseError):
                self._mover.remove(fragment)

    def close(self) -> None:
        """Break off transfers, tell those who wait, and let go of the directories; leased bytes stay readable.

        What lies in directories that `config` names stays for the next cache.
        """
        if not self._readers.stop():
            return
        with ExitStack() as rest:  # which is done in any case, the last first
            rest.callback(self._mover.close)
            rest.callback(self._readers.wait)
            if self._source:
                self._source.close()

    def _store(self, tier: CacheTier) -> TierStore:
        if tier not in self._stores:
            raise CacheConfigError(f"this cache has no {tier} tier; give it a size in its CacheConfig.")
        return self._stores[tier]
