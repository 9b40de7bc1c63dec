"""Many readers of one fragment, in threads and in event loops: one transfer, which none of them can take down."""

import asyncio
import math
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event, Lock, Thread

import pytest

from arbiter.cache import (
    AccountingStore,
    CacheClosedError,
    FileStore,
    Fragment,
    FragmentCache,
    FragmentInUseError,
    FragmentUnavailableError,
    StoreError,
    TierFullError,
)
from arbiter.cache.files import FileWriter
from arbiter.cache.flights import Flight, Flights, Landing
from arbiter.workload import WorkloadType
from tests.support.patience import PATIENCE
from tests.unit.cache.support import (
    NVME,
    RAM,
    VRAM,
    A,
    B,
    MemorySource,
    content,
    file_cache,
    fragment,
    read,
    used,
)

LLM, IMAGE, _ = WorkloadType


async def aread(cache: FragmentCache) -> bytes:
    with await cache.aopen(A) as lease:
        return bytes(lease.view)


def test_a_hundred_threads_share_one_download(tmp_path: Path) -> None:
    source = MemorySource(content("a"))
    source.gate.clear()
    with file_cache(tmp_path, ram=100, nvme=100, source=source) as cache, ThreadPoolExecutor(100) as threads:
        readers = [threads.submit(read, cache, A) for _ in range(100)]
        assert source.reached.wait(PATIENCE)
        source.gate.set()
        assert {reader.result(PATIENCE) for reader in readers} == {content("a")}
        assert source.fetched == Counter({A.id: 1})
        assert cache.stats().misses + cache.stats().hits == 100
        cache.clear()
        assert A.id not in cache


async def test_a_hundred_tasks_share_one_download_and_the_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    source = MemorySource(content("a"))
    source.gate.clear()
    with file_cache(tmp_path, ram=100, nvme=100, source=source) as cache:
        readers = [asyncio.create_task(aread(cache)) for _ in range(100)]
        await asyncio.to_thread(source.reached.wait, PATIENCE)
        assert not any(reader.done() for reader in readers)
        source.gate.set()
        assert set(await asyncio.gather(*readers)) == {content("a")}
        assert source.fetched == Counter({A.id: 1})
        cache.clear()
        assert A.id not in cache


async def test_an_open_fragment_is_leased_without_leaving_the_event_loop(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=100, source=MemorySource(content("a"))) as cache:
        await aread(cache)
        with pytest.raises(StopIteration) as end:
            cache.aopen(A).send(None)  # ends at once: nothing was awaited
        end.value.value.release()


async def test_a_cancelled_reader_takes_nothing_from_the_others(tmp_path: Path) -> None:
    source = MemorySource(content("a"))
    source.gate.clear()
    with file_cache(tmp_path, ram=100, source=source) as cache:
        first, second = (asyncio.create_task(aread(cache)) for _ in range(2))
        await asyncio.to_thread(source.reached.wait, PATIENCE)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        source.gate.set()
        assert await second == content("a")
        assert source.fetched == Counter({A.id: 1})
        cache.clear()
        assert A.id not in cache


async def test_what_everybody_gave_up_waiting_for_comes_all_the_same_and_is_held_by_nobody(tmp_path: Path) -> None:
    source = MemorySource(content("a"))
    source.gate.clear()
    with file_cache(tmp_path, ram=100, source=source) as cache:
        with pytest.raises(FragmentUnavailableError, match=r"did not come within 0\.01 s"):
            await asyncio.to_thread(cache.open, A, timeout=0.01)
        source.gate.set()
        assert await aread(cache) == content("a")
        assert source.fetched == Counter({A.id: 1})
        assert cache.remove(A.id)


async def test_a_reader_that_is_cancelled_after_the_landing_gives_its_lease_back(tmp_path: Path) -> None:
    source = MemorySource(content("a"))
    source.gate.clear()
    with file_cache(tmp_path, ram=100, source=source) as cache:
        reader = asyncio.create_task(cache.aopen(A))
        await asyncio.to_thread(source.reached.wait, PATIENCE)
        source.gate.set()
        cache.open(A).release()  # without awaiting: the flight has landed then, and the reader cannot have woken up
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert cache.remove(A.id)


def test_a_failed_flight_fails_its_readers_and_nobody_after_them(tmp_path: Path) -> None:
    source = MemorySource()
    source.gate.clear()
    with file_cache(tmp_path, ram=100, source=source) as cache, ThreadPoolExecutor(3) as threads:
        readers = [threads.submit(read, cache, A) for _ in range(3)]
        assert source.reached.wait(PATIENCE)
        source.gate.set()
        assert {type(reader.exception(PATIENCE)) for reader in readers} == {FragmentUnavailableError}
        assert cache.stats().tiers[RAM].used == 0
        source.have(content("a"))
        assert read(cache, A) == content("a")


def test_a_flight_that_no_thread_can_be_had_for_fails_its_reader_and_nobody_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    source = MemorySource(content("a"))
    with file_cache(tmp_path, ram=100, source=source) as cache:
        with monkeypatch.context() as patched:
            patched.setattr(Thread, "start", refused)
            with pytest.raises(StoreError, match=rf"^nobody can carry fragment {A.id}: can't start new thread\.$"):
                cache.open(A)
        cache.open(A, timeout=PATIENCE).release()
        assert source.fetched == Counter({A.id: 1})
        assert cache.remove(A.id)


def test_a_flight_that_a_thread_has_begun_with_goes_on_though_no_other_thread_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_over, go_on, has_begun = Event(), Event(), Event()
    lock = Lock()
    flights = Flights(lock=lock, parallel=2, on_landing=lambda *_: None)
    landing = Landing(tier=RAM, content=AccountingStore(RAM).open(A))

    def begin() -> Landing:
        has_begun.set()
        return landing

    def dawdle(_: "Future[Landing]") -> None:
        is_over.set()
        go_on.wait(PATIENCE)

    def refuse(_: Thread) -> None:
        go_on.set()
        assert has_begun.wait(PATIENCE)
        raise RuntimeError("can't start new thread")

    with lock:
        first = flights.start(A, into=RAM, is_here=True, job=lambda: landing)
        first.future.add_done_callback(dawdle)
    assert is_over.wait(PATIENCE)  # its thread is not free yet, but will be in a moment
    with lock:
        monkeypatch.setattr(Thread, "start", refuse)
        second = flights.start(B, into=RAM, is_here=True, job=begin)
        assert flights.of(B.id) is second
    assert second.future.result(PATIENCE) is landing
    flights.close()


@pytest.mark.parametrize("has_landed", [False, True], ids=["before the landing", "after it"])
def test_who_is_interrupted_while_it_puts_a_fragment_in_leaves_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_landed: bool
) -> None:
    def interrupted(future: "Future[Landing]") -> Landing:
        if has_landed:
            wait([future], PATIENCE)
        raise KeyboardInterrupt

    with file_cache(tmp_path, ram=100) as cache:
        with monkeypatch.context() as patched:
            patched.setattr(Future, "result", interrupted)
            with pytest.raises(KeyboardInterrupt):
                cache.insert(A, content("a"))
        cache.insert(A, content("a"))  # waits for the one that was left alone
        assert cache.remove(A.id)


def test_a_landing_that_fails_is_told_to_those_who_wait() -> None:
    def refuse(_: Flight, __: Landing) -> None:
        raise KeyError("nobody")

    lock = Lock()
    flights = Flights(lock=lock, parallel=1, on_landing=refuse)
    landing = Landing(tier=RAM, content=AccountingStore(RAM).open(A))
    with lock:
        flight = flights.start(A, into=RAM, is_here=True, job=lambda: landing)
    assert isinstance(flight.future.exception(PATIENCE), KeyError)
    with lock:
        assert (flights.of(A.id), flight.landing) == (None, None)
    flights.close()


def test_what_is_on_this_machine_does_not_wait_for_downloads(tmp_path: Path) -> None:
    source = MemorySource(content("a"))
    with (
        file_cache(tmp_path, ram=200, nvme=200, source=source, parallel=1) as cache,
        ThreadPoolExecutor(1) as threads,
    ):
        cache.insert(B, content("b"), tier=NVME)
        source.gate.clear()
        download = threads.submit(read, cache, A)
        assert source.reached.wait(PATIENCE)
        with cache.open(B, timeout=PATIENCE) as lease:
            assert (lease.tier, bytes(lease.view)) == (RAM, content("b"))
        assert not download.done()
        source.gate.set()
        assert download.result(PATIENCE) == content("a")


class Dawdling(FileStore):
    """Begins to take a fragment in when its gate is opened."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, durable=False)
        self.reached, self.gate = Event(), Event()

    def create(self, fragment: Fragment) -> FileWriter:
        self.reached.set()
        assert self.gate.wait(PATIENCE)
        return super().create(fragment)


def test_what_is_on_its_way_down_a_tier_is_not_brought_there_twice(tmp_path: Path) -> None:
    nvme = Dawdling(tmp_path / "nvme")
    with (
        file_cache(tmp_path, ram=100, nvme=1000, stores={NVME: nvme}) as cache,
        ThreadPoolExecutor(2) as threads,
    ):
        cache.insert(A, content("a"))
        moving = [threads.submit(cache.insert, B, content("b"))]  # which makes room for itself
        assert nvme.reached.wait(PATIENCE)
        nvme.reached.clear()
        moving.append(threads.submit(cache.insert, A, content("a"), tier=NVME))
        assert not nvme.reached.wait(0.1)
        nvme.gate.set()
        for each in moving:
            each.result(PATIENCE)
        assert used(cache) == {RAM: 100, NVME: 100}
        assert read(cache, A) == content("a")
        cache.clear()
        assert [stats.used for stats in cache.stats().tiers.values()] == [0, 0]


def test_readers_who_want_different_tiers_share_one_download(tmp_path: Path) -> None:
    source = MemorySource(content("a"))
    source.gate.clear()
    with file_cache(tmp_path, vram=100, ram=100, nvme=100, source=source) as cache, ThreadPoolExecutor(3) as threads:
        readers = [threads.submit(cache.open, A, into=tier) for tier in (NVME, RAM, VRAM)]
        assert source.reached.wait(PATIENCE)
        source.gate.set()
        leases = [reader.result(PATIENCE) for reader in readers]
        tiers = [lease.tier for lease in leases]
        assert tiers[1:] == [RAM, VRAM]
        assert tiers[0] in {NVME, RAM}
        assert source.fetched == Counter({A.id: 1})
        for lease in leases:
            lease.release()


def test_a_fragment_that_both_systems_wait_for_is_shared_from_its_landing(tmp_path: Path) -> None:
    source = MemorySource(content("a"))
    source.gate.clear()
    with file_cache(tmp_path, ram=200, source=source) as cache, ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(cache.open, A, workload_type=each) for each in (LLM, IMAGE)]
        assert source.reached.wait(PATIENCE)
        while cache.stats().misses < 2:
            pass
        source.gate.set()
        for reader in readers:
            reader.result(PATIENCE).release()
        cache.insert(B, content("b"))
        cache.insert(fragment("c"), content("c"))
        assert (A.id in cache, B.id in cache) == (True, False)


@pytest.mark.parametrize("timeout", [PATIENCE, math.inf, 1e12])
def test_a_reader_waits_as_long_as_it_likes(tmp_path: Path, timeout: float) -> None:
    source = MemorySource(content("a"))
    source.gate.clear()
    with file_cache(tmp_path, ram=100, source=source) as cache, ThreadPoolExecutor(1) as threads:
        reader = threads.submit(cache.open, A, timeout=timeout)
        with pytest.raises(TimeoutError):
            reader.result(0.05)
        source.gate.set()
        with reader.result(PATIENCE) as lease:
            assert bytes(lease.view) == content("a")


@pytest.mark.parametrize("room_timeout", [PATIENCE, math.inf])
def test_a_fetch_waits_for_readers_to_let_go_of_a_full_tier(tmp_path: Path, room_timeout: float) -> None:
    source = MemorySource(content("a"))
    with (
        file_cache(tmp_path, ram=100, source=source, room_timeout=room_timeout) as cache,
        ThreadPoolExecutor(1) as threads,
    ):
        cache.insert(B, content("b"))
        lease = cache.open(B)
        reader = threads.submit(read, cache, A)
        with pytest.raises(TimeoutError):
            reader.result(0.05)
        with pytest.raises(TierFullError):
            cache.insert(fragment("c"), content("c"))
        lease.release()
        assert reader.result(PATIENCE) == content("a")


def test_closing_tells_those_who_wait(tmp_path: Path) -> None:
    source = MemorySource()
    source.gate.clear()
    cache = file_cache(tmp_path, ram=200, source=source)
    with ThreadPoolExecutor(2) as threads:
        reader = threads.submit(read, cache, A)
        assert source.reached.wait(PATIENCE)
        cache.close()
        assert isinstance(reader.exception(PATIENCE), FragmentUnavailableError | CacheClosedError)


def test_threads_that_hammer_a_small_cache_read_right_bytes_and_leave_no_lease(tmp_path: Path) -> None:
    names = "abcdefgh"
    source = MemorySource(*(content(name) for name in names))

    def hammer(start: int) -> None:
        for step in range(60):
            wanted = fragment(names[(start * 5 + step * step) % len(names)])
            with cache.open(wanted) as lease:
                assert bytes(lease.view) == content(names[(start * 5 + step * step) % len(names)])
            if step % 20 == 7:
                try:
                    cache.remove(wanted.id)
                except FragmentInUseError:
                    continue

    with (
        file_cache(tmp_path, ram=300, nvme=500, source=source, room_timeout=PATIENCE) as cache,
        ThreadPoolExecutor(8) as threads,
    ):
        for worker in [threads.submit(hammer, start) for start in range(8)]:
            worker.result(PATIENCE)
        stats = cache.stats()
        assert all(tier.used == tier.fragments * 100 <= tier.capacity for tier in stats.tiers.values())
        cache.clear()
        assert cache.stats().fragments == 0
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"]
