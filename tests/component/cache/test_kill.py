"""Processes that are killed while they write, and processes that map what another one keeps."""

import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arbiter.cache import CacheConfig, CacheTier, Fragment, FragmentCache
from arbiter.cache.private import private_store

RAM, NVME = CacheTier.RAM, CacheTier.NVME
SIZE, COUNT = 200_000, 12

WRITER = f"""
import sys
from itertools import count
from pathlib import Path
from arbiter.cache import CacheConfig, CacheTier, Fragment, FragmentCache

config = CacheConfig(vram_bytes=0, ram_bytes={2 * SIZE}, nvme_bytes={5 * SIZE},
                     ram_directory=Path(sys.argv[1], "ram"), nvme_directory=Path(sys.argv[1], "nvme"))
with FragmentCache(config) as cache:
    for number in count():
        content = bytes([number % {COUNT}]) * {SIZE}
        cache.insert(Fragment.of(content), content, tier=(CacheTier.RAM, CacheTier.NVME)[number % 3 == 0])
        print(number % {COUNT}, flush=True)
"""
"""Twelve fragments over and over into room for two and five: it writes, renames, moves and deletes all the time."""

HALF_WRITER = """
import sys, time
from pathlib import Path
from arbiter.cache import FileStore, Fragment

store = FileStore(Path(sys.argv[1], "nvme"), durable=True)
writer = store.create(Fragment.of(b"ab" * 50_000))
writer.write(b"ab" * 25_000)
print("half", flush=True)
time.sleep(60)
"""

PRIVATE_WRITER = """
import sys, time
from pathlib import Path
from arbiter.cache import Fragment
from arbiter.cache.private import private_store

store = private_store(Path(sys.argv[1]))
writer = store.create(Fragment.of(b"a"))
writer.write(b"a")
writer.commit()
print("written", flush=True)
time.sleep(60)
"""

READER = """
import hashlib, mmap, os, sys

with open(sys.argv[1], "rb") as file:
    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    print(os.fstat(file.fileno()).st_ino, flush=True)
sys.stdin.readline()
print(hashlib.sha256(mapping).hexdigest(), flush=True)
"""


@contextmanager
def running(script: str, argument: Path) -> Iterator[subprocess.Popen[str]]:
    """A second process."""
    command = [sys.executable, "-c", script, str(argument)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def cache_in(directory: Path) -> FragmentCache:
    config = CacheConfig(
        vram_bytes=0,
        ram_bytes=2 * SIZE,
        nvme_bytes=5 * SIZE,
        ram_directory=directory / "ram",
        nvme_directory=directory / "nvme",
    )
    return FragmentCache(config)


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and path.name != "lock"]


@pytest.mark.parametrize("seed", range(6))
def test_a_cache_that_is_killed_while_it_writes_leaves_whole_fragments_or_none(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with running(WRITER, tmp_path) as writer:
        written = [int(line(writer)) for _ in range(chance.randint(1, 3 * COUNT))]
        time.sleep(chance.uniform(0, 0.005))  # a moment that nobody chose, in the next insert
        writer.send_signal(signal.SIGKILL)
        assert writer.wait(30) == -signal.SIGKILL
        assert writer.stdout is not None
        written += [int(number) for number in writer.stdout.read().split()]
    with cache_in(tmp_path) as cache:
        contents = {number: bytes([number]) * SIZE for number in range(COUNT)}
        here = [number for number, content in contents.items() if Fragment.of(content).id in cache]
        assert written[-1] in here
        for number in here:
            with cache.open(Fragment.of(contents[number]), into=NVME) as lease:
                assert lease.view == contents[number]
        stats = cache.stats()
        assert stats.damaged == 0
        assert sum(tier.used for tier in stats.tiers.values()) == len(files_in(tmp_path)) * SIZE


def test_half_a_fragment_is_swept_away_by_the_next_process(tmp_path: Path) -> None:
    with running(HALF_WRITER, tmp_path) as writer:
        assert line(writer) == "half"
        assert [path.parent.name for path in files_in(tmp_path)] == ["incoming"]
    with cache_in(tmp_path) as cache:
        assert cache.stats().fragments == 0
        assert files_in(tmp_path) == []


def test_what_killed_processes_kept_in_memory_is_found_or_swept_away_by_the_next_one_and_gone_after_it(
    tmp_path: Path,
) -> None:
    with running(PRIVATE_WRITER, tmp_path) as first, running(PRIVATE_WRITER, tmp_path) as second:
        assert (line(first), line(second)) == ("written", "written")
        third = private_store(tmp_path)
        assert third.scan() == []
        third.close()
        assert len(files_in(tmp_path)) == 2
    again = private_store(tmp_path)
    assert again.scan() == [Fragment.of(b"a")]
    assert len(files_in(tmp_path)) == 1
    again.close()
    assert files_in(tmp_path) == []


def test_another_process_maps_the_memory_of_a_leased_fragment_and_keeps_its_mapping_after_that() -> None:
    content = random.Random(1).randbytes(SIZE)
    with FragmentCache(CacheConfig(vram_bytes=0, ram_bytes=SIZE)) as cache:
        cache.insert(Fragment.of(content), content)
        with cache.open(Fragment.of(content)) as lease:
            assert lease.path is not None
            with running(READER, lease.path) as reader:
                assert int(line(reader)) == lease.path.stat().st_ino  # the very same pages, not a copy
                lease.release()
                cache.remove(Fragment.of(content).id)
                assert not lease.path.exists()
                answer, _ = reader.communicate("\n", timeout=30)
                assert answer.strip() == hashlib.sha256(content).hexdigest()
