"""What a fragment costs that is there already: a lease in RAM beside a dictionary, a stream from NVMe beside `read`."""

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from arbiter.cache import CacheConfig, CacheTier, Fragment, FragmentCache
from arbiter.units import MIB

LEASE = "lease a fragment in RAM, of a thousand there, and look at its bytes"
SMALL = [number.to_bytes(2) * 32_768 for number in range(1000)]
WANTED = Fragment.of(SMALL[500])

BUFFER = memoryview(bytearray(MIB))
BIG = random.Random(1).randbytes(MIB) * 256
BIG_FRAGMENT = Fragment.of(BIG)


@pytest.fixture
def in_ram() -> Iterator[FragmentCache]:
    with FragmentCache(CacheConfig(vram_bytes=0, ram_bytes=128 * MIB)) as cache:
        for content in SMALL:
            cache.insert(Fragment.of(content), content)
        with cache.open(WANTED) as lease:
            assert lease.view == SMALL[500]  # the first look maps the file
        yield cache


@pytest.mark.benchmark(group=LEASE)
def test_open(in_ram: FragmentCache, benchmark: BenchmarkFixture) -> None:
    def look() -> int:
        with in_ram.open(WANTED) as lease:
            return lease.view.nbytes

    assert benchmark(look) == WANTED.size


@pytest.mark.benchmark(group=LEASE)
def test_aopen(in_ram: FragmentCache, benchmark: BenchmarkFixture) -> None:
    async def look_ten_times() -> int:
        size = 0
        for _ in range(10):
            with await in_ram.aopen(WANTED) as lease:
                size += lease.view.nbytes
        return size

    benchmark.name += ", ten times"
    with asyncio.Runner() as runner:
        assert benchmark(lambda: runner.run(look_ten_times())) == 10 * WANTED.size


@pytest.mark.benchmark(group=LEASE)
def test_yardstick_dictionary(benchmark: BenchmarkFixture) -> None:
    kept = {Fragment.of(content).id: content for content in SMALL}
    assert benchmark(lambda: memoryview(kept[WANTED.id]).nbytes) == WANTED.size


@pytest.fixture(scope="module")
def on_nvme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FragmentCache]:
    """One file for all that stream it, since where its pages lie makes a difference."""
    directory = tmp_path_factory.mktemp("nvme")
    config = CacheConfig(vram_bytes=0, ram_bytes=0, nvme_bytes=len(BIG), nvme_directory=directory)
    with FragmentCache(config) as cache:
        cache.insert(BIG_FRAGMENT, BIG, tier=CacheTier.NVME)
        yield cache


def path_in(cache: FragmentCache) -> Path:
    with cache.open(BIG_FRAGMENT, into=CacheTier.NVME) as lease:
        assert lease.path is not None
        return lease.path


def leased(cache: FragmentCache) -> int:
    """Bytes read in pieces of 1 MiB through a lease."""
    offset = 0
    with cache.open(BIG_FRAGMENT, into=CacheTier.NVME) as lease:
        while size := lease.read_into(BUFFER, offset=offset):
            offset += size
    return offset


def plain(path: Path) -> int:
    """Bytes read in the same pieces from the same file."""
    total = 0
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(BUFFER):
            total += size
    return total


def cold(path: Path) -> None:
    """Throw the file out of the page cache, so that its disk is read."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def stream(benchmark: BenchmarkFixture, read: Callable[[], int], path: Path, *, place: str) -> None:
    benchmark.group = f"stream 256 MiB from NVMe, {place}"
    setup = (lambda: cold(path)) if place == "from the disk" else None
    assert benchmark.pedantic(read, setup=setup, rounds=15, warmup_rounds=1) == len(BIG)


@pytest.mark.parametrize("place", ["in the page cache", "from the disk"])
def test_lease(place: str, on_nvme: FragmentCache, benchmark: BenchmarkFixture) -> None:
    stream(benchmark, lambda: leased(on_nvme), path_in(on_nvme), place=place)


@pytest.mark.parametrize("place", ["in the page cache", "from the disk"])
def test_yardstick_plain_read(place: str, on_nvme: FragmentCache, benchmark: BenchmarkFixture) -> None:
    path = path_in(on_nvme)
    stream(benchmark, lambda: plain(path), path, place=place)
