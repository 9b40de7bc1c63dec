"""What readers of the fragment cache hold, for how long, and where they get it from."""

from pathlib import Path

import pytest

from arbiter.cache import FragmentInUseError, NoBytesError
from tests.unit.cache.support import (
    CDN,
    NVME,
    RAM,
    VRAM,
    A,
    B,
    C,
    MemorySource,
    accounting_cache,
    content,
    file_cache,
    fragment,
    named,
    put,
    used,
)


def test_what_a_reader_holds_stays_until_it_lets_go(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=200) as cache:
        put(cache, "a", "b")
        with cache.open(A):
            for move in (cache.remove, cache.demote):
                with pytest.raises(FragmentInUseError):
                    move(A.id)
            put(cache, "c")
            cache.clear()
            assert [cache.tier_of(each.id) for each in (A, B, C)] == [RAM, None, None]
        cache.clear()
        assert (A.id in cache, used(cache)) == (False, {RAM: 0})


def test_a_lease_that_is_dropped_is_told_of(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=100) as cache:
        put(cache, "a")
        with pytest.warns(ResourceWarning, match=f"a lease on fragment {A.id} was dropped and never released"):
            cache.open(A)
        with pytest.raises(FragmentInUseError):
            cache.remove(A)


def test_letting_go_twice_is_letting_go_once(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=200) as cache:
        put(cache, "a")
        first, second = cache.open(A), cache.open(A)
        first.release()
        first.release()
        with pytest.raises(FragmentInUseError):
            cache.remove(A.id)
        second.release()
        assert cache.remove(A.id)


def test_a_view_outlives_its_lease_and_its_fragment(tmp_path: Path) -> None:
    cache = file_cache(tmp_path, ram=100)
    put(cache, "a")
    with cache.open(A) as lease:
        view = lease.view
    cache.remove(A.id)
    cache.close()
    assert bytes(view) == content("a")


def test_a_reader_of_ram_that_others_fill_gets_the_copy_on_nvme(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=100, nvme=300) as cache:
        put(cache, "a", "b", tier=NVME)
        with cache.open(A) as first, cache.open(B) as second:
            assert (first.tier, second.tier) == (RAM, NVME)
            assert bytes(second.view) == content("b")


def test_a_reader_of_nvme_leaves_ram_alone_and_takes_what_is_there(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=100, nvme=300, source=MemorySource(content("b"))) as cache:
        put(cache, "a")
        for wanted, tier in ((B, NVME), (A, RAM)):
            with cache.open(wanted, into=NVME) as lease:
                assert lease.tier is tier
        assert used(cache) == {RAM: 100, NVME: 100}


def test_a_cache_with_one_host_tier_serves_both_wishes_from_it(tmp_path: Path) -> None:
    with file_cache(tmp_path / "ram-only", ram=100) as cache:
        put(cache, "a")
        with cache.open(A, into=NVME) as lease:
            assert lease.tier is RAM
    with file_cache(tmp_path / "nvme-only", nvme=100) as cache:
        put(cache, "a", tier=NVME)
        with cache.open(A) as lease:
            assert lease.tier is NVME


def test_reading_in_pieces(tmp_path: Path) -> None:
    with file_cache(tmp_path, nvme=300) as cache:
        put(cache, "abc", tier=NVME)
        buffer = bytearray(60)
        with cache.open(fragment("abc"), into=NVME) as lease:
            sizes = [lease.read_into(buffer, offset=offset) for offset in (0, 60, 100, 10**30)]
        assert (sizes, bytes(buffer[:40])) == ([60, 40, 0, 0], content("abc")[60:])


def test_accounted_bytes_cannot_be_read() -> None:
    with accounting_cache(vram=100) as cache:
        cache.insert(named("a"), tier=VRAM)
        with cache.open(named("a"), into=VRAM) as lease:
            assert lease.path is None
            with pytest.raises(NoBytesError, match="the VRAM tier only accounts for its fragments"):
                lease.read_into(bytearray(1))
            with pytest.raises(NoBytesError):
                _ = lease.view


def test_opening_into_vram_accounts_for_what_the_engine_will_hold(tmp_path: Path) -> None:
    with file_cache(tmp_path, vram=100, ram=100, source=MemorySource(content("a"))) as cache:
        with cache.open(A, into=VRAM) as lease:
            assert (lease.tier, lease.found_in) == (VRAM, CDN)
        assert used(cache) == {VRAM: 100, RAM: 100}
