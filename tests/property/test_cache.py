"""Any history of one cache: bytes are counted exactly, and nothing is lost or taken away that need not be."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from arbiter.cache import (
    CacheConfig,
    CacheTier,
    FileStore,
    Fragment,
    FragmentCache,
    FragmentId,
    FragmentInUseError,
    FragmentTooLargeError,
    FragmentUnavailableError,
    Intake,
    Lease,
    NoBytesError,
    TierFullError,
    UnknownFragmentError,
)
from arbiter.workload import WorkloadType

VRAM, RAM, NVME, _ = CacheTier
CAPACITIES = {VRAM: 100, RAM: 180, NVME: 300}
CONTENTS = [bytes([number]) * size for number, size in enumerate((1, 30, 50, 70, 70, 90, 100, 120, 181, 301))]
FRAGMENTS = [Fragment.of(content) for content in CONTENTS]
REFUSALS = (
    FragmentInUseError,
    FragmentTooLargeError,
    FragmentUnavailableError,
    NoBytesError,
    TierFullError,
    UnknownFragmentError,
)

numbers = st.integers(0, len(CONTENTS) - 1)
workload_types = st.sampled_from([None, *WorkloadType])


class Source:
    """Has them all."""

    def fetch(self, fragment: Fragment, intake: Intake) -> None:
        intake.write(CONTENTS[FRAGMENTS.index(fragment)])

    def close(self) -> None:
        """Nothing is under way."""


class CacheHistory(RuleBasedStateMachine):
    """One cache whose RAM and NVMe are directories; after each step its figures are held against the files."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._root = Path(self._directory.name)
        self._leases: list[Lease] = []
        self._open_cache()

    def _open_cache(self) -> None:
        config = CacheConfig(
            vram_bytes=CAPACITIES[VRAM], ram_bytes=CAPACITIES[RAM], nvme_bytes=CAPACITIES[NVME], room_timeout=0
        )
        stores = {tier: FileStore(self._root / tier, durable=False) for tier in (RAM, NVME)}
        self._cache = FragmentCache(config, stores=stores, source=Source())
        self._here = self._found()
        self._drops = dict.fromkeys(CAPACITIES, 0)

    def teardown(self) -> None:
        for lease in self._leases:
            lease.release()
        self._cache.close()
        self._directory.cleanup()

    def _found(self) -> set[FragmentId]:
        return {fragment.id for fragment in FRAGMENTS if fragment.id in self._cache}

    def _settle(self, *, moved: FragmentId) -> None:
        """See that all who went but `moved` are counted, and that who left RAM is on NVMe unless readers fill that."""
        drops = {tier: stats.drops for tier, stats in self._cache.stats().tiers.items()}
        here = self._found()
        lost, counted = self._here - here - {moved}, sum(drops.values()) - sum(self._drops.values())
        assert counted - len(lost) in ({0, 1} if moved in self._here else {0})  # it may have made room for itself
        assert drops[RAM] == self._drops[RAM] or any(lease.tier is NVME for lease in self._leases)
        self._here, self._drops = here, drops

    @rule(number=numbers, tier=st.sampled_from([VRAM, RAM, NVME]), workload_type=workload_types)
    def insert(self, number: int, tier: CacheTier, workload_type: WorkloadType | None) -> None:
        fragment = FRAGMENTS[number]
        try:
            self._cache.insert(fragment, CONTENTS[number], tier=tier, workload_type=workload_type)
        except (FragmentTooLargeError, TierFullError):
            assert fragment.size > CAPACITIES[tier] or self._leases
        else:
            assert fragment.id in self._cache
        self._settle(moved=fragment.id)

    @rule(number=numbers, into=st.sampled_from([VRAM, RAM, NVME]), workload_type=workload_types)
    def open(self, number: int, into: CacheTier, workload_type: WorkloadType | None) -> None:
        try:
            self._leases.append(self._cache.open(FRAGMENTS[number], into=into, workload_type=workload_type))
        except (FragmentUnavailableError, FragmentTooLargeError, TierFullError):
            assert FRAGMENTS[number].size > CAPACITIES[into] or self._leases
        self._settle(moved=FRAGMENTS[number].id)

    @precondition(lambda self: self._leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self._leases.pop(data.draw(st.integers(0, len(self._leases) - 1))).release()

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        fragment = FRAGMENTS[number].id
        try:
            self._cache.remove(fragment)
        except FragmentInUseError:
            assert any(lease.fragment.id == fragment for lease in self._leases)
        else:
            assert fragment not in self._cache
        self._settle(moved=fragment)

    @rule(number=numbers, up=st.booleans())
    def move(self, number: int, up: bool) -> None:
        fragment = FRAGMENTS[number].id
        try:
            (self._cache.promote if up else self._cache.demote)(fragment)
        except REFUSALS:
            assert (fragment in self._cache) == (fragment in self._here)
        self._settle(moved=fragment)

    @rule()
    def clear(self) -> None:
        self._cache.clear()
        assert self._found() == {lease.fragment.id for lease in self._leases}
        self._here = self._found()

    @precondition(lambda self: not self._leases)
    @rule()
    def restart(self) -> None:
        self._cache.close()
        self._open_cache()

    @invariant()
    def bytes_are_counted_exactly(self) -> None:
        for tier, stats in self._cache.stats().tiers.items():
            assert stats.used <= stats.capacity == CAPACITIES[tier]
            if tier is not VRAM:
                files = [path.stat().st_size for path in (self._root / tier / "sha256").iterdir()]
                assert (stats.used, stats.fragments) == (sum(files), len(files))

    @invariant()
    def readers_keep_what_they_hold(self) -> None:
        for lease in self._leases:
            if lease.tier is not VRAM:
                assert lease.path is not None
                assert lease.path.read_bytes() == CONTENTS[FRAGMENTS.index(lease.fragment)]


CacheHistory.TestCase.settings = settings(stateful_step_count=30)
test_any_history_of_a_cache = CacheHistory.TestCase
