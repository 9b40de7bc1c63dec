"""Fragments from a real HTTP server that breaks off, stalls, lies, refuses and restarts."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from pathlib import Path

import pytest

from arbiter.cache import (
    CacheClosedError,
    CacheConfig,
    CacheError,
    CacheTier,
    FileStore,
    Fragment,
    FragmentCache,
    FragmentUnavailableError,
)
from arbiter.cache.cdn import Cdn, Patience
from tests.component.cache.server import (
    CdnServer,
    Spoil,
    another_range,
    beginning_at,
    corrupt,
    cut_after,
    dripping,
    ended_after,
    stalled_after,
    status,
    too_long,
    without_ranges,
)
from tests.support.patience import PATIENCE

CONTENT = random.Random(1).randbytes(3_000_000)
SIZE = len(CONTENT)
IMPATIENT = Patience(attempts=3, stall=1, first_pause=0.001, longest_pause=0.01)


@pytest.fixture
def server() -> Iterator[CdnServer]:
    server = CdnServer()
    server.start()
    yield server
    server.close()


Open = Callable[..., FragmentCache]


@pytest.fixture
def cache_of(server: CdnServer, tmp_path: Path) -> Iterator[Open]:
    """A cache in front of the server."""
    opened: list[FragmentCache] = []

    def open_cache(patience: Patience = IMPATIENT, *, ram: int = SIZE) -> FragmentCache:
        config = CacheConfig(
            vram_bytes=0,
            ram_bytes=ram,
            nvme_bytes=4 * SIZE,
            ram_directory=tmp_path / "ram",
            nvme_directory=tmp_path / "nvme",
        )
        opened.append(FragmentCache(config, source=Cdn(server.url, patience=patience)))
        return opened[-1]

    yield open_cache
    for cache in opened:
        cache.close()


def read(cache: FragmentCache, fragment: Fragment) -> bytes:
    with cache.open(fragment) as lease:
        return bytes(lease.view)


class Begin(Enum):
    """Where a request begins."""

    ANEW = auto()
    FURTHER_ON = auto()


ANEW, FURTHER_ON = Begin


def begins(server: CdnServer) -> list[Begin]:
    """Of each request so far. How far on is the network's affair: what is on its way when it breaks is lost."""
    offsets = [int((each or "bytes=0-").removeprefix("bytes=").removesuffix("-")) for each in server.ranges]
    for before, after in pairwise(offsets):
        assert after == 0 or before <= after < SIZE
    return [FURTHER_ON if offset else ANEW for offset in offsets]


@dataclass(frozen=True)
class Case:
    """What the server does before all goes well, and what it is asked for in the end."""

    spoils: tuple[Spoil, ...]
    begins: list[Begin]


CASES = {
    "a good server is asked once": Case((), [ANEW]),
    "what breaks off goes on where it stopped": Case(
        (cut_after(1_000_000), cut_after(500_000)), [ANEW, FURTHER_ON, FURTHER_ON]
    ),
    "an answer that ends too early in good order goes on too": Case((ended_after(2_000_000),), [ANEW, FURTHER_ON]),
    "more breaks than attempts do no harm while bytes come": Case(
        (cut_after(500_000),) * 5, [ANEW, *(FURTHER_ON,) * 5]
    ),
    "a corrupt answer is fetched anew from the first byte": Case((corrupt, corrupt), [ANEW, ANEW, ANEW]),
    "a part that does not fit the other is fetched anew": Case(
        (cut_after(1_000_000), corrupt), [ANEW, FURTHER_ON, ANEW]
    ),
    "a longer answer is fetched anew": Case((too_long,), [ANEW, ANEW]),
    "a server that ignores ranges begins anew": Case((cut_after(1_000_000), without_ranges), [ANEW, FURTHER_ON]),
    "a server that gives another part is asked for everything": Case(
        (cut_after(1_000_000), another_range), [ANEW, FURTHER_ON, ANEW]
    ),
    "a server that gives a part unasked is asked again": Case((another_range,), [ANEW, ANEW]),
    "a part that begins nowhere is another part": Case((beginning_at("9" * 5000),), [ANEW, ANEW]),
    "a range that the server cannot satisfy is asked for as everything": Case(
        (cut_after(1_000_000), status(416)), [ANEW, FURTHER_ON, ANEW]
    ),
    "an overloaded server is asked again": Case((status(503), status(429, Retry_After="0")), [ANEW, ANEW, ANEW]),
    "a Retry-After that is no time is nonsense and nothing more": Case(
        (status(503, Retry_After="soon"), status(503, Retry_After="Thu, 01 Jan 1970 00:00:00 GMT")), [ANEW, ANEW, ANEW]
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_fragment_comes_whole_in_the_end(case: Case, server: CdnServer, cache_of: Open) -> None:
    server.spoils.extend(case.spoils)
    cache = cache_of()
    assert read(cache, server.have(CONTENT)) == CONTENT
    assert begins(server) == case.begins
    assert (cache.stats().downloads, cache.stats().downloaded_bytes) == (1, SIZE)


def test_an_answer_that_stalls_is_given_up_and_goes_on_over_another_connection(
    server: CdnServer, cache_of: Open
) -> None:
    server.spoils.append(stalled_after(1_000_000, server))
    assert read(cache_of(), server.have(CONTENT)) == CONTENT
    assert begins(server) == [ANEW, FURTHER_ON]


def test_a_server_that_restarts_in_the_middle_is_waited_for(server: CdnServer, cache_of: Open) -> None:
    server.spoils.append(stalled_after(1_000_000, server))
    fragment = server.have(CONTENT)
    cache = cache_of(Patience(attempts=1000, stall=PATIENCE, first_pause=0.01, longest_pause=0.05))
    with ThreadPoolExecutor(1) as threads:
        reader = threads.submit(read, cache, fragment)
        assert server.held.wait(PATIENCE)
        server.stop()
        server.start()
        assert reader.result(PATIENCE) == CONTENT
    assert begins(server) == [ANEW, FURTHER_ON]


def test_a_hundred_readers_of_a_server_that_breaks_off_cost_one_download(server: CdnServer, cache_of: Open) -> None:
    server.spoils.append(cut_after(1_000_000))
    fragment = server.have(CONTENT)
    cache = cache_of()
    together = threading.Barrier(100)

    def one() -> bool:
        together.wait(PATIENCE)
        return read(cache, fragment) == CONTENT

    with ThreadPoolExecutor(100) as threads:
        assert all(reader.result(PATIENCE) for reader in [threads.submit(one) for _ in range(100)])
    assert begins(server) == [ANEW, FURTHER_ON]


@dataclass(frozen=True)
class Refusal:
    spoils: tuple[Spoil, ...]
    requests: int
    sentence: str


REFUSALS = {
    "a fragment that the server does not have is not asked for again": Refusal(
        (status(404),), 1, "cannot be fetched: the server answers 404"
    ),
    "nor one that it does not give": Refusal((status(403),), 1, "cannot be fetched: the server answers 403"),
    "a server that stays overloaded is left alone after the attempts": Refusal(
        (status(503),) * 9, 3, "could not be fetched, 0 of 3000000 bytes came: the server answers 503"
    ),
    "a server that stays corrupt too": Refusal(
        (corrupt,) * 9, 4, "could not be fetched, 3000000 of 3000000 bytes came: .* came with other bytes"
    ),
    "a break at the same byte again and again is no progress": Refusal(
        (cut_after(1_000_000), *(cut_after(0),) * 9), 4, r"\d{6,7} of 3000000 bytes came"
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_a_fragment_that_cannot_be_had_is_told_and_poisons_nothing(
    case: Refusal, server: CdnServer, cache_of: Open
) -> None:
    server.spoils.extend(case.spoils)
    fragment = server.have(CONTENT)
    cache = cache_of()
    with pytest.raises(FragmentUnavailableError, match=case.sentence):
        read(cache, fragment)
    assert len(server.ranges) == case.requests
    assert [tier.used for tier in cache.stats().tiers.values()] == [0, 0]
    server.spoils.clear()
    assert read(cache, fragment) == CONTENT


def test_an_overloaded_server_is_left_alone_for_as_long_as_it_asks(server: CdnServer, cache_of: Open) -> None:
    server.spoils.append(status(429, Retry_After="1"))
    begin = time.monotonic()
    assert read(cache_of(), server.have(CONTENT)) == CONTENT
    assert time.monotonic() - begin >= 1


def test_a_server_that_is_not_there_is_told(server: CdnServer, cache_of: Open) -> None:
    fragment = server.have(CONTENT)
    server.stop()
    with pytest.raises(FragmentUnavailableError, match="0 of 3000000 bytes came: Cannot connect to host"):
        read(cache_of(), fragment)


def test_a_fragment_that_takes_too_long_in_all_is_given_up(server: CdnServer, cache_of: Open) -> None:
    with pytest.raises(FragmentUnavailableError, match="it takes longer than 0 s"):
        read(cache_of(Patience(deadline=0)), server.have(CONTENT))


def test_a_server_whose_answer_hardly_begins_is_given_up_too(server: CdnServer, cache_of: Open) -> None:
    server.spoils.extend([dripping] * 9)
    with pytest.raises(FragmentUnavailableError, match=r"0 of 3000000 bytes came: it takes longer than 0\.5 s"):
        read(cache_of(Patience(deadline=0.5)), server.have(CONTENT))


@pytest.mark.parametrize("name", ["asyncio_", "fragment-cdn"])
def test_a_cache_that_gets_no_thread_says_so(
    server: CdnServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(name):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    config = CacheConfig(vram_bytes=0, ram_bytes=SIZE, ram_directory=tmp_path, cdn_url=server.url)
    with pytest.raises(CacheError, match=r"can't start new thread\."), FragmentCache(config) as cache:
        read(cache, server.have(CONTENT))
    with closing(FileStore(tmp_path, durable=False)) as store:
        assert store.scan() == []


def test_closing_breaks_off_what_is_under_way_and_what_waits_for_its_next_attempt(
    server: CdnServer, cache_of: Open
) -> None:
    server.spoils.extend((stalled_after(1_000_000, server), status(503, Retry_After="60")))
    cache = cache_of(Patience(stall=PATIENCE))
    stalled, waiting = server.have(CONTENT), server.have(CONTENT[1:])
    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read, cache, stalled)]
        assert server.held.wait(PATIENCE)
        readers.append(threads.submit(read, cache, waiting))
        while len(server.ranges) < 2:
            time.sleep(0.01)
        cache.close()
        assert [type(reader.exception(PATIENCE)) for reader in readers] == [CacheClosedError] * 2
        with pytest.raises(CacheClosedError):
            cache.open(stalled)


def test_a_download_goes_to_nvme_first_so_that_ram_can_lose_it(server: CdnServer, cache_of: Open) -> None:
    cache = cache_of()
    first, second = server.have(CONTENT), server.have(CONTENT[::-1])
    read(cache, first)
    read(cache, second)
    assert [cache.tier_of(each.id) for each in (first, second)] == [CacheTier.NVME, CacheTier.RAM]
    assert read(cache, first) == CONTENT
    assert len(server.ranges) == 2


def test_a_download_that_is_larger_than_ram_is_read_from_nvme(server: CdnServer, cache_of: Open) -> None:
    with cache_of(ram=1000).open(server.have(CONTENT)) as lease:
        assert (lease.tier, lease.found_in) == (CacheTier.NVME, CacheTier.CDN)
        assert bytes(lease.view) == CONTENT


def test_the_address_in_the_configuration_is_where_fragments_come_from(server: CdnServer, tmp_path: Path) -> None:
    config = CacheConfig(vram_bytes=0, ram_bytes=SIZE, ram_directory=tmp_path, cdn_url=server.url + "/")
    with FragmentCache(config) as cache:
        assert read(cache, server.have(CONTENT)) == CONTENT
