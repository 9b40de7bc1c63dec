"""One job per fragment at a time, however many wait for it. Imports the standard library only."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

from arbiter.cache.errors import StoreError
from arbiter.cache.fragment import CacheTier, Fragment, FragmentId
from arbiter.cache.store import Content
from arbiter.workload import WorkloadType


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """What a flight brought: a content in a tier, leased once."""

    tier: CacheTier
    content: Content


@dataclass(slots=True, kw_only=True, eq=False)
class Flight:
    """One fragment on its way to a tier. A passenger is a reader that a lease is taken for when it lands."""

    fragment: Fragment
    into: CacheTier
    passengers: list[WorkloadType | None] = field(default_factory=list)
    landing: Landing | None = None
    future: Future[Landing] = field(default_factory=Future)

    async def over(self) -> None:
        """Wait for its end, good or bad, in this event loop; being cancelled here ends this wait and nothing else."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def wake(_: Future[Landing]) -> None:
            with suppress(RuntimeError):  # a loop that was closed meanwhile has nobody waiting
                loop.call_soon_threadsafe(done.set)

        self.future.add_done_callback(wake)
        await done.wait()


class Flights:
    """The flights of one cache; `lock` is the cache's, and `on_landing` is called with it held.

    A flight runs in a thread of a pool and belongs to none of those who wait, so none of them can take it down by
    leaving. When it lands, `on_landing` takes a lease for each passenger in the same breath, so that nothing is
    evicted between the landing and a passenger's waking up. A failed one leaves nothing behind: who asks next
    starts anew. Fragments that come from elsewhere have `parallel` threads of their own, so that those of this machine
    never wait for a slow download.
    """

    def __init__(self, *, lock: Lock, parallel: int, on_landing: Callable[[Flight, Landing], None]) -> None:
        self._lock = lock
        self._on_landing = on_landing
        self._flying: dict[FragmentId, Flight] = {}
        self._moves = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="fragment-move")
        self._downloads = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="fragment-download")

    def of(self, fragment: FragmentId) -> Flight | None:
        """The fragment's flight, if it is on its way; called with the lock held."""
        return self._flying.get(fragment)

    def start(self, fragment: Fragment, *, into: CacheTier, is_here: bool, job: Callable[[], Landing]) -> Flight:
        """Begin; called with the lock held, for a fragment without a flight. `job` leaves its landing leased once.

        `is_here`: whether this machine has the bytes.

        Raises:
            StoreError: there is no thread that could carry it.
        """
        flight = Flight(fragment=fragment, into=into)
        try:
            (self._moves if is_here else self._downloads).submit(self._fly, flight, job)
        except RuntimeError as error:
            # A pool that gets no thread has queued the job all the same, and one that it has may have begun with it.
            if flight.future.cancel():
                raise StoreError(f"nobody can carry fragment {fragment.id}: {error}.") from error
        self._flying[fragment.id] = flight
        return flight

    def close(self) -> None:
        """Wait for what is under way; nothing is started any more."""
        for pool in (self._moves, self._downloads):
            pool.shutdown()

    def _fly(self, flight: Flight, job: Callable[[], Landing]) -> None:
        if not flight.future.set_running_or_notify_cancel():
            return
        try:
            landing = job()
            with self._lock:
                self._on_landing(flight, landing)
                flight.landing = landing
                del self._flying[flight.fragment.id]
        except BaseException as error:  # whatever it is belongs to those who wait, not to this thread
            with self._lock:
                del self._flying[flight.fragment.id]
            flight.future.set_exception(error)
        else:
            flight.future.set_result(landing)
