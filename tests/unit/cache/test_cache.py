"""The fragment cache as its users see it: where fragments go, what they are counted as, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.cache import (
    CacheClosedError,
    CacheConfigError,
    CacheStats,
    CacheTier,
    DamagedFragmentError,
    Fragment,
    FragmentCache,
    FragmentId,
    FragmentInUseError,
    FragmentTooLargeError,
    FragmentUnavailableError,
    InvalidFragmentError,
    NoBytesError,
    TierFullError,
    TierStats,
    UnknownFragmentError,
)
from arbiter.workload import WorkloadType
from tests.unit.cache.support import (
    CDN,
    NVME,
    RAM,
    VRAM,
    A,
    B,
    MemorySource,
    accounting_cache,
    content,
    file_cache,
    fragment,
    named,
    put,
    read,
    used,
)

LLM, IMAGE, _ = WorkloadType


# Eviction


def test_a_shared_fragment_survives_where_those_of_one_system_go() -> None:
    with accounting_cache(vram=300) as cache:
        for name in "abc":
            cache.insert(named(name), tier=VRAM, workload_type=LLM)
        cache.mark_shared(FragmentId("b"))
        cache.insert(named("d"), tier=VRAM, workload_type=LLM)
        assert [FragmentId(name) in cache for name in "abcd"] == [False, True, True, True]


def test_what_ram_has_no_room_for_goes_to_nvme_and_from_there_off_the_machine(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=200, nvme=200) as cache:
        put(cache, "a", "b", "c", "d", "e")
        tiers = [cache.tier_of(fragment(name).id) for name in "abcde"]
        assert tiers == [None, NVME, NVME, RAM, RAM]
        assert read(cache, B, into=NVME) == content("b")
        assert cache.stats() == CacheStats(
            tiers={
                RAM: TierStats(capacity=200, used=200, fragments=2, evictions=3),
                NVME: TierStats(capacity=200, used=200, fragments=2, hits=1, evictions=1, drops=1),
            },
            fragments=4,
        )


def test_what_came_up_from_nvme_leaves_ram_without_being_written_again(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=100, nvme=300) as cache:
        put(cache, "a", "b", tier=NVME)
        file = tmp_path / "nvme" / "sha256" / A.id.removeprefix("sha256:")
        before = file.stat()
        assert read(cache, A) == content("a")
        assert (cache.tier_of(A.id), used(cache)) == (RAM, {RAM: 100, NVME: 200})
        assert read(cache, B) == content("b")
        assert (cache.tier_of(A.id), used(cache)) == (NVME, {RAM: 100, NVME: 200})
        assert file.stat() == before


def test_a_scan_through_many_fragments_leaves_those_in_use_where_they_are(tmp_path: Path) -> None:
    scanned = [content(name) for name in "stuvwxyz"]
    with file_cache(tmp_path, ram=500, nvme=2000, source=MemorySource(*scanned)) as cache:
        put(cache, "a", "b")
        for wanted in (A, B):
            read(cache, wanted)
        for each in scanned:
            read(cache, Fragment.of(each))
        assert (cache.tier_of(A.id), cache.tier_of(B.id)) == (RAM, RAM)


def test_a_victim_that_fits_in_no_lower_tier_is_dropped(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=200, nvme=100) as cache:
        large = fragment("l", 150)
        cache.insert(large, content("l", 150))
        put(cache, "a")
        assert (large.id in cache, cache.stats().tiers[RAM].drops) == (False, 1)


# Bytes


def test_inserting_a_fragment_again_counts_its_bytes_once(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=300) as cache:
        put(cache, "a", "a")
        assert used(cache) == {RAM: 100}


def test_inserting_another_size_replaces_what_was_accounted_for() -> None:
    with accounting_cache(vram=300, ram=300) as cache:
        cache.insert(named("a", 200), tier=RAM)
        cache.insert(named("a", 200), tier=VRAM)
        cache.insert(named("a", 50), tier=VRAM)
        assert used(cache) == {VRAM: 50, RAM: 0}


def test_another_size_does_not_replace_what_a_reader_holds() -> None:
    with accounting_cache(ram=300) as cache:
        cache.insert(named("a", 200))
        with cache.open(named("a", 200)), pytest.raises(FragmentInUseError):
            cache.insert(named("a", 50))
        assert used(cache) == {RAM: 200}


def test_content_that_is_not_what_the_id_says_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=300, nvme=300) as cache:
        for tier in (RAM, NVME):
            with pytest.raises(DamagedFragmentError, match="came with other bytes"):
                cache.insert(A, content("b"), tier=tier)
            with pytest.raises(DamagedFragmentError, match="is longer than its 100 bytes"):
                cache.insert(A, content("a", 101), tier=tier)
            with pytest.raises(DamagedFragmentError, match="ended after 99 of 100 bytes"):
                cache.insert(A, content("a", 99), tier=tier)
        assert (used(cache), len(cache.stats().tiers), A.id in cache) == ({RAM: 0, NVME: 0}, 2, False)
        assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"] == []


def test_a_fragment_larger_than_its_tier_is_refused(tmp_path: Path) -> None:
    with (
        file_cache(tmp_path, ram=99) as cache,
        pytest.raises(FragmentTooLargeError, match="100 bytes do not fit in the RAM tier, which has 99 in all"),
    ):
        put(cache, "a")


@pytest.mark.parametrize(
    ("tier", "given", "error", "sentence"),
    [
        (RAM, None, NoBytesError, "the RAM tier keeps bytes; give the content of fragment a."),
        (RAM, b"a" * 100, InvalidFragmentError, '"a" is no digest; a fragment whose bytes are kept is named sha256:'),
        (NVME, b"a", CacheConfigError, "this cache has no NVMe tier; give it a size in its CacheConfig."),
        (CDN, b"a", CacheConfigError, "this cache has no CDN tier"),
    ],
)
def test_an_insert_that_cannot_be_is_refused_in_a_sentence(
    tmp_path: Path, tier: CacheTier, given: bytes | None, error: type[Exception], sentence: str
) -> None:
    with file_cache(tmp_path, ram=300) as cache:
        with pytest.raises(error, match=sentence):
            cache.insert(named("a"), given, tier=tier)
        assert used(cache) == {RAM: 0}


def test_promoting_makes_room_above_and_keeps_the_copy_below() -> None:
    with accounting_cache(vram=100, ram=200) as cache:
        for name in "ab":
            cache.insert(named(name))
            assert cache.promote(FragmentId(name)) is VRAM
        assert cache.promote(FragmentId("b")) is VRAM
        assert (cache.tier_of(FragmentId("a")), used(cache)) == (RAM, {VRAM: 100, RAM: 200})


def test_promoting_respects_the_upper_tier() -> None:
    with accounting_cache(vram=150, ram=500) as cache:
        cache.insert(named("a"), tier=VRAM)
        cache.insert(named("b"))
        cache.insert(named("large", 200))
        with pytest.raises(FragmentTooLargeError):
            cache.promote(FragmentId("large"))
        with cache.open(named("a"), into=VRAM), pytest.raises(TierFullError):
            cache.promote(FragmentId("b"))
        assert used(cache) == {VRAM: 100, RAM: 300}
        assert [cache.tier_of(FragmentId(name)) for name in ("a", "b", "large")] == [VRAM, RAM, RAM]


def test_demoting_goes_down_step_by_step_and_off_the_machine_at_last(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=100, nvme=100) as cache:
        put(cache, "a")
        assert [cache.demote(A.id), used(cache)] == [NVME, {RAM: 0, NVME: 100}]
        assert [cache.demote(A.id), used(cache)] == [None, {RAM: 0, NVME: 0}]
        with pytest.raises(UnknownFragmentError):
            cache.demote(A.id)
        with pytest.raises(UnknownFragmentError):
            cache.promote(A.id)


def test_removing_frees_every_tier(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=100, nvme=100) as cache:
        put(cache, "a", tier=NVME)
        read(cache, A)
        assert used(cache) == {RAM: 100, NVME: 100}
        assert [cache.remove(A.id), cache.remove(A.id)] == [True, False]
        assert used(cache) == {RAM: 0, NVME: 0}


# Asking


def test_each_reader_counts_one_hit_or_one_miss(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=100, nvme=100, source=MemorySource(content("a"))) as cache:
        for into, found_in in ((NVME, CDN), (RAM, NVME), (RAM, RAM)):
            with cache.open(A, into=into) as lease:
                assert lease.found_in is found_in
        assert cache.access(A.id) is RAM
        assert cache.access(B.id) is None
        stats = cache.stats()
        assert (stats.misses, stats.tiers[NVME].hits, stats.tiers[RAM].hits) == (2, 1, 2)
        assert (stats.downloads, stats.downloaded_bytes, stats.hit_rate) == (1, 100, 0.6)


@pytest.mark.parametrize(
    ("wanted", "into", "error", "sentence"),
    [
        (B, RAM, FragmentUnavailableError, "no tier holds fragment sha256:.*, and there is no CDN to fetch it from."),
        (Fragment(id=A.id, size=99), RAM, InvalidFragmentError, "has 100 bytes, not 99."),
        (A, CDN, CacheConfigError, "this cache has no CDN tier to open fragment"),
        (A, VRAM, CacheConfigError, "this cache has no VRAM tier"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_a_sentence(
    tmp_path: Path, wanted: Fragment, into: CacheTier, error: type[Exception], sentence: str
) -> None:
    with file_cache(tmp_path, ram=300) as cache:
        put(cache, "a")
        with pytest.raises(error, match=sentence):
            cache.open(wanted, into=into)


def test_a_fragment_that_no_tier_can_keep_is_told_with_the_reason(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=50, nvme=100, source=MemorySource(content("a"), content("b"))) as cache:
        with cache.open(A), pytest.raises(FragmentUnavailableError, match="cannot be kept: 100 bytes do not fit"):
            cache.open(B)
        assert used(cache) == {RAM: 0, NVME: 100}


def test_a_closed_cache_says_so(tmp_path: Path) -> None:
    cache = file_cache(tmp_path, ram=300)
    put(cache, "a")
    cache.close()
    cache.close()
    with pytest.raises(CacheClosedError, match="the cache is closed"):
        cache.open(A)
    with pytest.raises(CacheClosedError):
        put(cache, "a")


CHANGES: dict[str, Callable[[FragmentCache], object]] = {
    "remove": lambda cache: cache.remove(A.id),
    "demote": lambda cache: cache.demote(A.id),
    "promote": lambda cache: cache.promote(A.id),
    "clear": lambda cache: cache.clear(),
    "insert another size": lambda cache: cache.insert(Fragment(id=A.id, size=99), content("a", 99), tier=NVME),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_closed_cache_leaves_its_directories_to_the_next_one(
    tmp_path: Path, change: Callable[[FragmentCache], object]
) -> None:
    closed = file_cache(tmp_path, ram=100, nvme=100)
    put(closed, "a", tier=NVME)
    closed.close()
    with file_cache(tmp_path, ram=100, nvme=100) as cache:
        with pytest.raises(CacheClosedError, match="the cache is closed"):
            change(closed)
        assert read(cache, A) == content("a")
