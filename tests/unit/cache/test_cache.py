"""The fragment cache as its users see it: where fragments go, what they are counted as, and what is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from arbiter.cache import (
    AccountingStore,
    CacheClosedError,
    CacheConfigError,
    CacheStats,
    CacheTier,
    Content,
    DamagedFragmentError,
    Fragment,
    FragmentCache,
    FragmentId,
    FragmentInUseError,
    FragmentTooLargeError,
    FragmentUnavailableError,
    InvalidFragmentError,
    NoBytesError,
    StoreError,
    TierFullError,
    TierStats,
    UnknownFragmentError,
    Writer,
)
from arbiter.cache.fragment import BytesLike
from arbiter.workload import WorkloadType
from tests.unit.cache.support import (
    CDN,
    NVME,
    RAM,
    VRAM,
    MemorySource,
    accounting_cache,
    content,
    file_cache,
    fragment,
    named,
)

LLM, IMAGE, _ = WorkloadType
A, B, C, D = (fragment(name) for name in "abcd")


def put(cache: FragmentCache, *names: str, tier: CacheTier = RAM) -> None:
    for name in names:
        cache.insert(fragment(name), content(name), tier=tier)


def used(cache: FragmentCache) -> dict[CacheTier, int]:
    return {tier: stats.used for tier, stats in cache.stats().tiers.items()}


def read(cache: FragmentCache, wanted: Fragment, *, into: CacheTier = RAM) -> bytes:
    with cache.open(wanted, into=into) as lease:
        return bytes(lease.view)


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


def test_a_device_gives_its_bytes_back_when_it_makes_room(tmp_path: Path) -> None:
    with file_cache(tmp_path, vram=100, ram=200, stores={VRAM: DeviceStore()}) as cache:
        put(cache, "a", "b", tier=VRAM)
        assert (cache.tier_of(A.id), cache.tier_of(B.id)) == (RAM, VRAM)
        assert read(cache, A) == content("a")


def test_the_host_reads_a_fragment_of_the_device_through_ram(tmp_path: Path) -> None:
    with file_cache(tmp_path, vram=100, ram=100, stores={VRAM: DeviceStore()}) as cache:
        put(cache, "a", tier=VRAM)
        with cache.open(A) as lease:
            assert (bytes(lease.view), lease.tier, lease.found_in) == (content("a"), RAM, VRAM)


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


# Leases


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


# Stores that fail


def test_a_store_that_fails_leaves_no_bytes_behind(tmp_path: Path) -> None:
    with file_cache(tmp_path, vram=100, ram=100, stores={VRAM: DeviceStore(broken=True)}) as cache:
        with pytest.raises(StoreError, match="the device is gone"):
            put(cache, "a", tier=VRAM)
        assert used(cache) == {VRAM: 0, RAM: 0}


class ForgetfulStore(AccountingStore):
    """Does not know any more what it has."""

    def scan(self) -> Sequence[Fragment]:
        raise StoreError("the device is gone.")


class Clinging(AccountingStore):
    """Cannot be closed."""

    def close(self) -> None:
        raise StoreError("the device does not answer.")


def test_a_store_that_cannot_be_closed_keeps_no_other_open(tmp_path: Path) -> None:
    cache = file_cache(tmp_path, vram=100, nvme=100, stores={VRAM: Clinging(VRAM)})
    with pytest.raises(StoreError, match="does not answer"):
        cache.close()
    file_cache(tmp_path, nvme=100).close()


def test_a_cache_that_cannot_be_made_holds_no_directory(tmp_path: Path) -> None:
    (tmp_path / "nvme").write_bytes(b"a file")
    with pytest.raises(StoreError, match="nvme cannot be used: Not a directory"):
        file_cache(tmp_path, ram=100, nvme=100)
    with pytest.raises(StoreError, match="the device is gone"):
        file_cache(tmp_path, vram=100, ram=100, stores={VRAM: ForgetfulStore(VRAM)})
    (tmp_path / "ram" / "incoming").rmdir()
    (tmp_path / "ram" / "incoming").write_bytes(b"a file")
    with pytest.raises(StoreError, match="ram cannot be used: File exists"):
        file_cache(tmp_path, ram=100)
    (tmp_path / "ram" / "incoming").unlink()
    file_cache(tmp_path, ram=100).close()


class DeviceStore(AccountingStore):
    """A device's memory: its bytes can be copied out, but the host cannot map them."""

    holds_bytes = True

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__(VRAM)
        self.memory: dict[FragmentId, bytearray] = {}
        self._broken = broken

    def create(self, fragment: Fragment) -> Writer:
        return DeviceWriter(self.memory.setdefault(fragment.id, bytearray()), broken=self._broken)

    def open(self, fragment: Fragment) -> Content:
        return DeviceContent(self.memory[fragment.id])

    def delete(self, fragment: FragmentId) -> None:
        del self.memory[fragment]


class DeviceWriter:
    def __init__(self, memory: bytearray, *, broken: bool) -> None:
        self._memory = memory
        self._broken = broken

    def write(self, piece: BytesLike) -> None:
        self._memory += piece
        if self._broken:
            raise StoreError("the device is gone.")

    def restart(self) -> None:
        self._memory.clear()

    def commit(self) -> None:
        pass

    def abort(self) -> None:
        self._memory.clear()


class DeviceContent:
    path = None

    def __init__(self, memory: bytearray) -> None:
        self._memory = memory

    def is_intact(self) -> bool:
        return True

    def view(self) -> memoryview:
        raise NoBytesError("the device is not mapped.")

    def read_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        piece = self._memory[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)
