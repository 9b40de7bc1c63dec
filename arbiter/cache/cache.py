"""`FragmentCache`: the tiers of one machine as one cache, for threads and for asyncio.

A thin shell: `index` decides, `mover` carries bytes, `flights` see that nothing is fetched twice at once. Imports the
standard library only.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from arbiter.cache.config import CacheConfig, open_source, open_stores
from arbiter.cache.errors import (
    CacheClosedError,
    CacheConfigError,
    FragmentInUseError,
    FragmentUnavailableError,
    NoBytesError,
    UnknownFragmentError,
)
from arbiter.cache.flights import Flight, Flights, Landing
from arbiter.cache.fragment import BytesLike, CacheTier, Fragment, FragmentId
from arbiter.cache.index import CacheIndex, TierLimits
from arbiter.cache.lease import Lease
from arbiter.cache.mover import Mover
from arbiter.cache.stats import CacheStats
from arbiter.cache.store import Source, TierStore
from arbiter.cache.transfers import HOST_TIERS, Transfers
from arbiter.workload import WorkloadType

_SERVING = {
    CacheTier.VRAM: (CacheTier.VRAM,),
    CacheTier.RAM: (CacheTier.RAM,),
    CacheTier.NVME: (CacheTier.RAM, CacheTier.NVME),
}
"""Which copies are as good as one in the tier that a reader asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    fragment: Fragment
    serving: tuple[CacheTier, ...]
    """Copies that will do; one is made in the last of these tiers."""
    workload_type: WorkloadType | None
    found_in: CacheTier

    @property
    def into(self) -> CacheTier:
        return self.serving[-1]

    def boards(self, flight: Flight) -> bool:
        return flight.into is self.into and flight.fragment == self.fragment


class FragmentCache:
    """Fragments in VRAM, RAM and on NVMe, fetched from a CDN; all methods are safe from any thread.

    Args:
        config: sizes and places; the default accounts for 10 GiB of VRAM and keeps 32 GiB in shared memory.
        stores: what keeps a tier's bytes, where it is not what `config` names. VRAM is only accounted for by default.
        source: where fragments come from that no tier has, instead of the CDN that `config` names.

    Raises:
        CacheConfigError: the NVMe tier has a size and no directory.
        StoreError: a directory cannot be used.
    """

    def __init__(
        self,
        config: CacheConfig | None = None,
        *,
        stores: Mapping[CacheTier, TierStore] | None = None,
        source: Source | None = None,
    ) -> None:
        config = config or CacheConfig()
        self._stores = open_stores(config, stores or {})
        self._source = source or open_source(config)
        self._lock = threading.Lock()
        self._index = CacheIndex(
            {
                tier: TierLimits(capacity=config.capacities[tier], holds_bytes=store.holds_bytes)
                for tier, store in self._stores.items()
            }
        )
        self._mover = Mover(index=self._index, stores=self._stores, lock=self._lock)
        self._flights = Flights(lock=self._lock, parallel=config.parallel_transfers, on_landing=self._seat)
        self._transfers = Transfers(
            index=self._index,
            mover=self._mover,
            stores=self._stores,
            source=self._source,
            lock=self._lock,
            room_timeout=config.room_timeout,
        )
        self._closed = False
        self._mover.find_again()

    def __enter__(self) -> "FragmentCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The index

    def __contains__(self, fragment: FragmentId) -> bool:
        return self.tier_of(fragment) is not None

    def tier_of(self, fragment: FragmentId) -> CacheTier | None:
        """The highest tier that holds it; None if none does."""
        with self._lock:
            return next(iter(self._index.copies(fragment)), None)

    def access(self, fragment: FragmentId, *, workload_type: WorkloadType | None = None) -> CacheTier | None:
        """Count a use by somebody who has the bytes already: a hit in the tier that is returned, or a miss."""
        with self._lock:
            return self._index.access(fragment, workload_type)

    def mark_shared(self, fragment: FragmentId) -> None:
        """Both systems use it; it is evicted after those that one uses. Uses by both mark it by themselves.

        Raises:
            UnknownFragmentError: no tier holds it.
        """
        with self._lock:
            self._index.mark_shared(fragment)

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
        workload_type: WorkloadType | None = None,
        timeout: float | None = None,
    ) -> Lease:
        """A lease on the fragment in `into`, brought there from where it is and fetched if it is nowhere.

        Where that tier has no room for it, the lease is on the tier below; `Lease.tier` says where. Readers that ask
        at the same time share one transfer.

        Args:
            into: RAM; NVMe for what is read once and is not worth RAM (a copy in RAM serves too); VRAM.
            workload_type: who reads: a fragment that both systems read is evicted last.
            timeout: seconds; by default as long as the transfer's own limits.

        Raises:
            FragmentUnavailableError: it is nowhere and cannot be fetched or kept, or not within the time.
            InvalidFragmentError: it has another size.
            CacheConfigError: there is no such tier.
            CacheClosedError: the cache is closed.
        """
        reader = self._reader(fragment, into=into, workload_type=workload_type)
        deadline = None if timeout is None else time.monotonic() + timeout
        while isinstance(answer := self._ask(reader), Flight):
            try:
                over = wait([answer.future], timeout=None if deadline is None else deadline - time.monotonic()).done
            except BaseException:
                self._leave(answer, reader)
                raise
            if not over:
                self._leave(answer, reader)
                raise FragmentUnavailableError(f"fragment {fragment.id} did not come within {timeout:g} s.")
            if reader.boards(answer):
                return self._board(answer, reader)
        return answer

    async def aopen(
        self,
        fragment: Fragment,
        *,
        into: CacheTier = CacheTier.RAM,
        workload_type: WorkloadType | None = None,
    ) -> Lease:
        """`open` for asyncio: it never blocks the event loop, and cancelling it leaves other readers alone."""
        reader = self._reader(fragment, into=into, workload_type=workload_type)
        while isinstance(answer := self._ask(reader), Flight):
            try:
                await answer.over()
            except BaseException:
                self._leave(answer, reader)
                raise
            if reader.boards(answer):
                return self._board(answer, reader)
        return answer

    # Moving

    def insert(
        self,
        fragment: Fragment,
        content: BytesLike | None = None,
        *,
        tier: CacheTier = CacheTier.RAM,
        workload_type: WorkloadType | None = None,
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
        store = self._store(tier)
        if content is None and store.holds_bytes:
            raise NoBytesError(f"the {tier} tier keeps bytes; give the content of fragment {fragment.id}.")
        with self._lock:
            known = self._index.fragment(fragment.id)
        if known and known.size != fragment.size:
            self.remove(fragment.id)
        self._perform(
            fragment,
            into=tier,
            workload_type=workload_type,
            job=lambda: self._transfers.take_in(fragment, content, into=tier),
        )

    def remove(self, fragment: FragmentId) -> bool:
        """Throw it out of every tier; whether any had it.

        Raises:
            FragmentInUseError: readers hold it, or it is on its way.
            StoreError: a store failed.
        """
        return self._mover.remove(fragment)

    def promote(self, fragment: FragmentId) -> CacheTier:
        """Copy it to the next higher tier, which makes room for it; the tier that it is in then.

        The lower copy stays until its tier needs the room.

        Raises:
            UnknownFragmentError: no tier holds it.
            FragmentTooLargeError, TierFullError, NoBytesError, StoreError: the higher tier does not take it.
        """
        with self._lock:
            known = self._index.fragment(fragment)
            highest = next(iter(self._index.copies(fragment)), None)
        if known is None or highest is None:
            raise UnknownFragmentError(f"no tier holds fragment {fragment}.")
        target = self._index.tiers[max(0, self._index.tiers.index(highest) - 1)]
        if target is not highest:
            self._perform(known, into=target, workload_type=None, job=lambda: self._transfers.lift(known, into=target))
        return target

    def demote(self, fragment: FragmentId) -> CacheTier | None:
        """Move it out of its highest tier, to the next one that takes it; where it is then, None if no longer here.

        Raises:
            UnknownFragmentError: no tier holds it.
            FragmentInUseError: readers hold it.
        """
        self._mover.demote(fragment)
        return self.tier_of(fragment)

    def clear(self) -> None:
        """Throw out everything that nobody holds."""
        with self._lock:
            fragments = list(self._index)
        for fragment in fragments:
            with suppress(FragmentInUseError):
                self._mover.remove(fragment)

    def close(self) -> None:
        """Break off transfers, tell those who wait, and let go of the directories; leased bytes stay readable.

        What lies in directories that `config` names stays for the next cache.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._source:
            self._source.close()
        self._flights.close()
        for store in self._stores.values():
            store.close()

    # How a reader comes to its lease

    def _reader(self, fragment: Fragment, *, into: CacheTier, workload_type: WorkloadType | None) -> _Reader:
        """Count the access, once for each reader."""
        serving = tuple(tier for tier in _SERVING.get(into, ()) if tier in self._stores)
        if not serving and into in HOST_TIERS:
            serving = tuple(tier for tier in HOST_TIERS if tier in self._stores)
        if not serving:
            raise CacheConfigError(f"this cache has no {into} tier to open fragment {fragment.id} in.")
        with self._lock:
            found_in = self._index.access(fragment.id, workload_type) or CacheTier.CDN
        return _Reader(fragment=fragment, serving=serving, workload_type=workload_type, found_in=found_in)

    def _ask(self, reader: _Reader) -> Lease | Flight:
        """A lease if a copy is open already, else the fragment's flight: a passenger if it goes where the reader wants.

        Called again after a flight that went elsewhere.
        """
        fragment = reader.fragment
        with self._lock:
            if self._closed:
                raise CacheClosedError(f"the cache is closed; fragment {fragment.id} cannot be opened.")
            if self._index.fragment(fragment.id) == fragment:
                for tier in reader.serving:
                    content = self._mover.lease_if_open(fragment.id, tier)
                    if content is not None:
                        return self._lease(reader, Landing(tier=tier, content=content))
            flight = self._flights.of(fragment.id) or self._flights.start(
                fragment, into=reader.into, job=lambda: self._transfers.bring(fragment, serving=reader.serving)
            )
            if reader.boards(flight):
                flight.passengers.append(reader.workload_type)
            return flight

    def _seat(self, flight: Flight, landing: Landing) -> None:
        """A lease for each passenger instead of the flight's own."""
        for workload_type in flight.passengers:
            self._index.lease(flight.fragment.id, landing.tier)
            self._index.note_user(flight.fragment.id, workload_type)
        self._mover.release(flight.fragment.id, landing.tier)

    def _board(self, flight: Flight, reader: _Reader) -> Lease:
        """A passenger's lease after the landing; raises what the flight failed with."""
        return self._lease(reader, flight.future.result())

    def _leave(self, flight: Flight, reader: _Reader) -> None:
        """A passenger gives up its place, or the lease that was taken for it already."""
        if not reader.boards(flight):
            return
        with self._lock:
            if flight.landing is None:
                flight.passengers.remove(reader.workload_type)
            else:
                self._mover.release(flight.fragment.id, flight.landing.tier)

    def _lease(self, reader: _Reader, landing: Landing) -> Lease:
        return Lease(
            fragment=reader.fragment,
            tier=landing.tier,
            found_in=reader.found_in,
            content=landing.content,
            on_release=self._release,
        )

    def _release(self, lease: Lease) -> None:
        with self._lock:
            if lease.held:
                lease.held = False
                self._mover.release(lease.fragment.id, lease.tier)

    def _perform(
        self, fragment: Fragment, *, into: CacheTier, workload_type: WorkloadType | None, job: Callable[[], Landing]
    ) -> None:
        """Run a job as the fragment's own flight, after the one that may be under way; raises what it raises."""
        while True:
            with self._lock:
                if self._closed:
                    raise CacheClosedError(f"the cache is closed; fragment {fragment.id} cannot be moved.")
                other = self._flights.of(fragment.id)
                if other is None:
                    mine = self._flights.start(fragment, into=into, job=job)
                    mine.passengers.append(workload_type)
                    break
            wait([other.future])
        landing = mine.future.result()
        with self._lock:
            self._mover.release(fragment.id, landing.tier)

    def _store(self, tier: CacheTier) -> TierStore:
        if tier not in self._stores:
            raise CacheConfigError(f"this cache has no {tier} tier; give it a size in its CacheConfig.")
        return self._stores[tier]
