"""How a reader comes to its lease: at once where a copy is open, else as a passenger of the fragment's flight.

Imports the standard library only.
"""

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import wait
from dataclasses import dataclass

from arbiter.cache.arguments import fragment_of, user_of
from arbiter.cache.errors import CacheClosedError, CacheConfigError, FragmentUnavailableError
from arbiter.cache.flights import Flight, Flights, Landing
from arbiter.cache.fragment import CacheTier, Fragment
from arbiter.cache.index import CacheIndex
from arbiter.cache.lease import Lease
from arbiter.cache.mover import Mover
from arbiter.cache.transfers import HOST_TIERS, Transfers
from arbiter.workload import WorkloadType

_SERVING = {
    CacheTier.VRAM: (CacheTier.VRAM,),
    CacheTier.RAM: (CacheTier.RAM,),
    CacheTier.NVME: (CacheTier.RAM, CacheTier.NVME),
}
"""Which copies are as good as one in the tier that a reader asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One who wants a lease."""

    fragment: Fragment
    serving: tuple[CacheTier, ...]
    """Copies that will do; one is made in the last of these tiers."""
    user: WorkloadType | None
    found_in: CacheTier

    @property
    def into(self) -> CacheTier:
        """Where a copy is made for it."""
        return self.serving[-1]

    def boards(self, flight: Flight) -> bool:
        """Whether the flight brings what it wants to where it wants it."""
        return flight.into is self.into and flight.fragment == self.fragment


class Readers:
    """The readers of a cache with these `tiers`, and its flights, of which `parallel` run at a time from each side."""

    def __init__(
        self,
        *,
        index: CacheIndex,
        mover: Mover,
        transfers: Transfers,
        tiers: Collection[CacheTier],
        lock: threading.Lock,
        parallel: int,
    ) -> None:
        self._index = index
        self._mover = mover
        self._transfers = transfers
        self._tiers = tiers
        self._lock = lock
        self._flights = Flights(lock=lock, parallel=parallel, on_landing=self._seat)
        self._closed = False

    def reader(self, fragment: Fragment, *, into: CacheTier, workload_type: WorkloadType | str | None) -> Reader:
        """Count the access, once for each reader.

        Raises:
            CacheConfigError: there is no such tier, or no such workload type.
            InvalidFragmentError: it is no fragment.
        """
        fragment_of(fragment)
        user = user_of(workload_type)
        serving = tuple(tier for tier in _SERVING.get(into, ()) if tier in self._tiers)
        if not serving and into in HOST_TIERS:
            serving = tuple(tier for tier in HOST_TIERS if tier in self._tiers)
        if not serving:
            raise CacheConfigError(f"this cache has no {into} tier to open fragment {fragment.id} in.")
        with self._lock:
            found_in = self._index.access(fragment.id, user) or CacheTier.CDN
        return Reader(fragment=fragment, serving=serving, user=user, found_in=found_in)

    def open(self, reader: Reader, *, timeout: float | None) -> Lease:
        """Its lease, waited for in this thread; raises what `FragmentCache.open` does."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while isinstance(answer := self._ask(reader), Flight):
            try:
                over = wait([answer.future], timeout=None if deadline is None else deadline - time.monotonic()).done
            except BaseException:
                self._step_back(answer, reader)
                raise
            if not over:
                self._step_back(answer, reader)
                raise FragmentUnavailableError(f"fragment {reader.fragment.id} did not come within {timeout:g} s.")
            if reader.boards(answer):
                return self._board(answer, reader)
        return answer

    async def aopen(self, reader: Reader) -> Lease:
        """Its lease, waited for in this event loop; raises what `FragmentCache.aopen` does."""
        while isinstance(answer := self._ask(reader), Flight):
            try:
                await answer.over()
            except BaseException:
                self._step_back(answer, reader)
                raise
            if reader.boards(answer):
                return self._board(answer, reader)
        return answer

    def perform(
        self, fragment: Fragment, *, into: CacheTier, user: WorkloadType | None, job: Callable[[], Landing]
    ) -> None:
        """Run a job as the fragment's own flight, after the one that may be under way; raises what it raises."""
        while True:
            with self._lock:
                if self._closed:
                    raise CacheClosedError(f"the cache is closed; fragment {fragment.id} cannot be moved.")
                other = self._flights.of(fragment.id)
                if other is None:
                    mine = self._flights.start(fragment, into=into, is_here=True, job=job)
                    mine.passengers.append(user)
                    break
            wait([other.future])
        try:
            mine.future.result()
        finally:  # also where who waits is interrupted
            self._leave(mine, user)

    def stop(self) -> bool:
        """Turn away who comes from here on; whether anybody was served until now."""
        with self._lock:
            was_open, self._closed = not self._closed, True
        return was_open

    def wait(self) -> None:
        """Wait for the flights that are under way."""
        self._flights.close()

    def _ask(self, reader: Reader) -> Lease | Flight:
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
                        # It may have come only since this reader's access was counted as a miss.
                        self._index.note_user(fragment.id, reader.user)
                        return self._lease(reader, Landing(tier=tier, content=content))
            flight = self._flights.of(fragment.id) or self._flights.start(
                fragment,
                into=reader.into,
                is_here=bool(self._index.copies(fragment.id)),
                job=lambda: self._transfers.bring(fragment, serving=reader.serving),
            )
            if reader.boards(flight):
                flight.passengers.append(reader.user)
            return flight

    def _seat(self, flight: Flight, landing: Landing) -> None:
        """A lease for each passenger instead of the flight's own, which is given back also where this fails."""
        try:
            for user in flight.passengers:
                self._index.note_user(flight.fragment.id, user)
            for _ in flight.passengers:
                self._index.lease(flight.fragment.id, landing.tier)
        finally:
            self._mover.release(flight.fragment.id, landing.tier)

    def _board(self, flight: Flight, reader: Reader) -> Lease:
        """A passenger's lease after the landing; raises what the flight failed with."""
        return self._lease(reader, flight.future.result())

    def _step_back(self, flight: Flight, reader: Reader) -> None:
        """A reader waits no longer, as a passenger or for a flight that goes elsewhere."""
        if reader.boards(flight):
            self._leave(flight, reader.user)

    def _leave(self, flight: Flight, user: WorkloadType | None) -> None:
        """A passenger gives up its place, or the lease that was taken for it already."""
        with self._lock:
            if flight.landing is None:
                flight.passengers.remove(user)
            else:
                self._mover.release(flight.fragment.id, flight.landing.tier)

    def _lease(self, reader: Reader, landing: Landing) -> Lease:
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
