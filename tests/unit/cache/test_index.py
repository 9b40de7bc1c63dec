"""The index: whose copy goes next, what is held, and every byte accounted for."""

import pytest

from arbiter.cache.errors import FragmentInUseError, FragmentTooLargeError, TierFullError, UnknownFragmentError
from arbiter.cache.fragment import CacheTier, Fragment, FragmentId
from arbiter.cache.index import CacheIndex, TierLimits, Victim
from arbiter.cache.stats import CacheStats, TierStats
from arbiter.workload import WorkloadType
from tests.unit.cache.support import NVME, RAM, VRAM, named

LLM, IMAGE, VIDEO = WorkloadType


def index_of(*, vram: int = 0, ram: int = 0, nvme: int = 0, accounts_vram: bool = True) -> CacheIndex:
    limits = {
        VRAM: TierLimits(capacity=vram, holds_bytes=not accounts_vram),
        RAM: TierLimits(capacity=ram),
        NVME: TierLimits(capacity=nvme),
    }
    return CacheIndex({tier: limit for tier, limit in limits.items() if limit.capacity})


def put(index: CacheIndex, *fragments: Fragment, tier: CacheTier, user: WorkloadType | None = None) -> None:
    for fragment in fragments:
        assert index.next_victim(tier, fragment.size) is None
        index.reserve(fragment, tier)
        index.commit(fragment.id, tier)
        index.note_user(fragment.id, user)


def drop(index: CacheIndex, fragment: Fragment, tier: CacheTier) -> None:
    index.start_leaving(fragment.id, tier)
    index.finish_leaving(fragment.id, tier)


A, B, C, D = (named(name) for name in "abcd")


def test_a_b_shared_and_c_fill_300_bytes_and_d_pushes_a_out() -> None:
    index = index_of(ram=300)
    put(index, A, B, C, tier=RAM, user=LLM)
    index.mark_shared(B.id)
    assert index.next_victim(RAM, 100) == Victim(fragment=A, tier=RAM, lower=())
    drop(index, A, RAM)
    put(index, D, tier=RAM)
    assert [index.copies(each.id) for each in (A, B, C, D)] == [(), (RAM,), (RAM,), (RAM,)]


def test_a_fragment_that_both_systems_use_is_shared_without_being_told() -> None:
    index = index_of(ram=300)
    put(index, A, B, tier=RAM, user=LLM)
    index.access(A.id, VIDEO)
    index.access(B.id, LLM)
    assert list(index.victims(RAM)) == [B.id, A.id]


def test_images_and_videos_are_one_system() -> None:
    index = index_of(ram=300)
    put(index, A, B, tier=RAM, user=IMAGE)
    index.access(A.id, VIDEO)
    index.access(B.id, VIDEO)
    assert list(index.victims(RAM)) == [A.id, B.id]


def test_a_fragment_stays_shared_when_it_moves_to_another_tier() -> None:
    index = index_of(ram=300, nvme=300)
    put(index, A, B, tier=RAM)
    index.mark_shared(A.id)
    put(index, A, B, tier=NVME)
    assert list(index.victims(NVME)) == [B.id, A.id]


def test_an_access_makes_every_copy_the_most_recently_used() -> None:
    index = index_of(ram=300, nvme=300)
    put(index, A, B, tier=NVME)
    put(index, A, B, tier=RAM)
    assert index.access(A.id, None) is RAM
    assert (list(index.victims(RAM)), list(index.victims(NVME))) == ([B.id, A.id], [B.id, A.id])


def test_a_victim_goes_to_the_tiers_below_unless_one_has_it() -> None:
    index = index_of(vram=100, ram=100, nvme=300, accounts_vram=False)
    put(index, A, tier=VRAM)
    put(index, B, tier=RAM)
    put(index, B, tier=NVME)
    assert index.next_victim(VRAM, 1) == Victim(fragment=A, tier=VRAM, lower=(RAM, NVME))
    assert index.next_victim(RAM, 1) == Victim(fragment=B, tier=RAM, lower=())


def test_what_was_only_accounted_for_cannot_go_to_a_tier_that_keeps_bytes() -> None:
    index = index_of(vram=100, ram=100)
    put(index, A, tier=VRAM)
    assert index.next_victim(VRAM, 1) == Victim(fragment=A, tier=VRAM, lower=())


def test_a_fragment_larger_than_the_tier_is_refused_and_nobody_leaves_for_it() -> None:
    index = index_of(ram=300)
    put(index, A, tier=RAM)
    with pytest.raises(FragmentTooLargeError, match=r"301 bytes do not fit in the RAM tier, which has 300 in all\."):
        index.next_victim(RAM, 301)


def test_nothing_leaves_under_a_reader() -> None:
    index = index_of(ram=300)
    put(index, A, B, C, tier=RAM)
    index.lease(A.id, RAM)
    assert list(index.victims(RAM)) == [B.id, C.id]
    with pytest.raises(FragmentInUseError, match="fragment a is held in the RAM tier by 1 readers"):
        index.start_leaving(A.id, RAM)


def test_nobody_is_evicted_in_vain_where_readers_hold_too_much() -> None:
    index = index_of(ram=300)
    put(index, A, B, C, tier=RAM)
    index.lease(A.id, RAM)
    index.lease(A.id, RAM)
    assert index.next_victim(RAM, 200) == Victim(fragment=B, tier=RAM, lower=())
    with pytest.raises(TierFullError, match="no room for 201 bytes: 100 of its 300 are held by readers"):
        index.next_victim(RAM, 201)
    index.release(A.id, RAM)
    with pytest.raises(TierFullError):
        index.next_victim(RAM, 201)
    index.release(A.id, RAM)
    assert index.next_victim(RAM, 201) == Victim(fragment=A, tier=RAM, lower=())


def test_what_is_on_its_way_in_counts_and_is_neither_there_nor_a_victim() -> None:
    index = index_of(ram=300)
    index.reserve(A, RAM)
    assert (index.copies(A.id), list(index.victims(RAM)), index.room(RAM)) == ((), [], 200)
    assert index.is_busy(A.id)
    index.abort(A.id, RAM)
    assert (index.fragment(A.id), index.room(RAM), index.is_busy(A.id)) == (None, 300, False)


def test_what_is_on_its_way_out_counts_until_it_is_gone() -> None:
    index = index_of(ram=300)
    put(index, A, tier=RAM)
    index.start_leaving(A.id, RAM)
    assert (index.copies(A.id), list(index.victims(RAM)), index.room(RAM)) == ((), [], 200)
    index.stay(A.id, RAM)
    assert (index.copies(A.id), list(index.victims(RAM)), index.room(RAM)) == ((RAM,), [A.id], 200)
    drop(index, A, RAM)
    assert (index.copies(A.id), index.room(RAM)) == ((), 300)


def test_a_fragment_that_is_being_copied_to_another_tier_is_no_victim() -> None:
    index = index_of(ram=300, nvme=300)
    put(index, A, tier=NVME)
    index.reserve(A, RAM)
    assert list(index.victims(NVME)) == []
    index.commit(A.id, RAM)
    assert list(index.victims(NVME)) == [A.id]


def test_an_unknown_fragment_cannot_be_marked_shared() -> None:
    with pytest.raises(UnknownFragmentError, match="no tier holds fragment x"):
        index_of(ram=100).mark_shared(FragmentId("x"))


def test_the_figures_say_what_happened() -> None:
    index = index_of(ram=300, nvme=400)
    put(index, A, B, tier=RAM)
    put(index, B, tier=NVME)
    for name in "aabx":
        index.access(FragmentId(name), None)
    for each in (A, B):
        victim = index.victim(each.id, RAM)
        drop(index, each, RAM)
        index.count_eviction(victim)
    stats = CacheStats(tiers=index.stats(), fragments=len(index), misses=index.misses)
    assert stats == CacheStats(
        tiers={
            RAM: TierStats(capacity=300, used=0, fragments=0, hits=3, evictions=2, drops=1),
            NVME: TierStats(capacity=400, used=100, fragments=1),
        },
        fragments=1,
        misses=1,
    )
    assert (stats.hits, stats.hit_rate, stats.tiers[NVME].utilisation) == (3, 0.75, 0.25)


def test_a_cache_that_nobody_used_has_a_hit_rate_of_0() -> None:
    assert (CacheStats(tiers={}).hit_rate, TierStats(capacity=0).utilisation) == (0.0, 0.0)
