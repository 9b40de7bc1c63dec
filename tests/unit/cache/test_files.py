"""Tiers that are directories: what survives, what is checked, and what is thrown away."""

import fcntl
import gc
import os
import resource
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.cache import (
    CacheConfig,
    DamagedFragmentError,
    DirectoryInUseError,
    FileStore,
    Fragment,
    FragmentCache,
    FragmentUnavailableError,
    StoreError,
)
from arbiter.cache.files import FileContent
from arbiter.cache.private import private_store
from tests.unit.cache.support import NVME, RAM, A, B, C, MemorySource, content, file_cache, fragment


def file_of(directory: Path, wanted: Fragment) -> Path:
    return directory / "nvme" / "sha256" / wanted.id.removeprefix("sha256:")


def private_directory(root: Path, number: int) -> Path:
    return root / f"arbiter-cache-{os.geteuid()}-{number}"


def keep(store: FileStore) -> None:
    writer = store.create(A)
    writer.write(content("a"))
    writer.commit()


def fill(directory: Path, *names: str) -> None:
    """An earlier process that put these fragments on NVMe, one after the other."""
    with file_cache(directory, nvme=1000) as cache:
        for age, name in enumerate(names):
            cache.insert(fragment(name), content(name), tier=NVME)
            os.utime(file_of(directory, fragment(name)), ns=(age, age))


def read(cache: FragmentCache, wanted: Fragment) -> bytes:
    with cache.open(wanted, into=NVME) as lease:
        return bytes(lease.view)


def test_fragments_on_nvme_survive_the_process(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    with file_cache(tmp_path, nvme=1000) as cache:
        assert [read(cache, A), read(cache, B)] == [content("a"), content("b")]
        stats = cache.stats()
        assert (stats.fragments, stats.tiers[NVME].used, stats.damaged) == (2, 200, 0)


def test_a_smaller_tier_keeps_the_newest_and_evicts_the_oldest_first(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", "c")
    with file_cache(tmp_path, nvme=200) as cache:
        assert [each.id in cache for each in (A, B, C)] == [False, True, True]
        assert not file_of(tmp_path, A).exists()
        cache.insert(A, content("a"), tier=NVME)
        assert [each.id in cache for each in (A, B, C)] == [True, False, True]


def flip(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"x" + path.read_bytes()[1:])


def cut(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 99)


def lengthen(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"a")


def empty(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 0)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a byte is another": flip,
    "the end is missing": cut,
    "nothing but the name is left": empty,
    "the file is gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_was_damaged_while_nobody_looked_is_fetched_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    fill(tmp_path, "a")
    damage(file_of(tmp_path, A))
    with file_cache(tmp_path, nvme=1000, source=MemorySource(content("a"))) as cache:
        assert read(cache, A) == content("a")
        assert cache.stats().tiers[NVME].used == 100
    with file_cache(tmp_path, nvme=1000) as cache:
        assert read(cache, A) == content("a")


@pytest.mark.parametrize("damage", [flip, cut, lengthen, Path.unlink])
def test_a_file_that_is_damaged_under_a_running_cache_is_fetched_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    source = MemorySource(content("a"))
    with file_cache(tmp_path, nvme=1000, source=source) as cache:
        cache.insert(A, content("a"), tier=NVME)
        damage(file_of(tmp_path, A))
        assert read(cache, A) == content("a")
        stats = cache.stats()
        assert (source.fetched.total(), stats.damaged, stats.tiers[NVME].used) == (1, 1, 100)


def test_a_damaged_file_without_a_source_is_thrown_away_and_told(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    flip(file_of(tmp_path, A))
    with file_cache(tmp_path, nvme=1000) as cache:
        with pytest.raises(FragmentUnavailableError, match="no tier holds fragment"):
            read(cache, A)
        assert not file_of(tmp_path, A).exists()


def test_a_file_is_hashed_once_and_again_only_when_it_was_written_to(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "nvme", durable=True)
    keep(store)
    path = file_of(tmp_path, A)
    written = path.stat()
    flip(path)
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert bytes(store.open(A).view()[:2]) == b"xa"  # the same file by all that can be told without reading it
    os.utime(path)
    with pytest.raises(Exception, match="bytes with the digest of its name should be there"):
        store.open(A)
    store.close()


def test_a_file_gets_its_name_after_its_bytes_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def recorded_fsync(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        steps.append(f"sync {kind}")
        fsync(descriptor)

    def recorded_rename(source: Path, target: Path) -> Path:
        steps.append(f"rename {source.parent.name} to {target.parent.name}")
        return rename(source, target)

    with file_cache(tmp_path, ram=100, nvme=100) as cache:
        monkeypatch.setattr(os, "fsync", recorded_fsync)
        monkeypatch.setattr(Path, "rename", recorded_rename)
        cache.insert(A, content("a"), tier=NVME)
        assert steps == ["sync file", "rename incoming to sha256", "sync directory"]
        steps.clear()
        cache.insert(A, content("a"), tier=RAM)
        assert steps == ["rename incoming to sha256"]


def test_everybody_may_read_a_fragments_file_and_nobody_may_write_to_it(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    assert stat.S_IMODE(file_of(tmp_path, A).stat().st_mode) == 0o444


def test_what_is_no_fragment_is_left_alone_and_what_was_on_its_way_is_swept_away(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    (tmp_path / "nvme" / "incoming" / "half").write_bytes(b"half")
    (tmp_path / "nvme" / "sha256" / "notes.txt").write_bytes(b"mine")
    with file_cache(tmp_path, nvme=1000) as cache:
        assert cache.stats().fragments == 1
        left = {path.name for path in (tmp_path / "nvme").rglob("*") if path.is_file()}
        assert left == {"lock", "notes.txt", A.id.removeprefix("sha256:")}


def test_a_directory_with_the_name_of_a_fragment_is_none(tmp_path: Path) -> None:
    (tmp_path / "nvme" / "sha256" / ("0" * 64)).mkdir(parents=True)
    with file_cache(tmp_path, nvme=1) as cache:
        assert cache.stats().fragments == 0


def test_who_gets_a_directory_when_another_has_just_emptied_it_can_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def late_flock(descriptor: int, operation: int) -> None:
        (tmp_path / "sha256").rmdir()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    store = FileStore(tmp_path, durable=False)
    keep(store)
    assert store.scan() == [A]
    store.close()


def test_two_caches_do_not_share_a_directory(tmp_path: Path) -> None:
    with (
        file_cache(tmp_path, nvme=100),
        pytest.raises(DirectoryInUseError, match="nvme is used by another cache; give each its own directory"),
    ):
        file_cache(tmp_path, nvme=100)
    file_cache(tmp_path, nvme=100).close()


def test_a_cache_that_nobody_closed_gives_its_directory_back_when_it_is_dropped(tmp_path: Path) -> None:
    cache = file_cache(tmp_path, nvme=100)
    cache.insert(A, content("a"), tier=NVME)
    del cache
    gc.collect()
    with file_cache(tmp_path, nvme=100) as cache:
        assert read(cache, A) == content("a")


class Forgetful(FileStore):
    """Loses what it was given, each time."""

    def open(self, fragment: Fragment) -> FileContent:
        self.delete(fragment.id)
        return super().open(fragment)


def test_a_copy_that_is_lost_at_once_is_held_by_nobody_and_the_one_below_serves(tmp_path: Path) -> None:
    ram = Forgetful(tmp_path / "memory", durable=False)
    with file_cache(tmp_path, ram=100, nvme=100, stores={RAM: ram}) as cache:
        cache.insert(A, content("a"), tier=NVME)
        with cache.open(A) as lease:
            assert (lease.tier, bytes(lease.view)) == (NVME, content("a"))
        with pytest.raises(DamagedFragmentError, match="cannot be read: No such file or directory"):
            cache.insert(A, content("a"), tier=RAM)
        assert (cache.stats().damaged, cache.stats().tiers[RAM].used) == (2, 0)
        assert cache.remove(A)


def test_who_writes_after_the_end_writes_into_no_other_file(tmp_path: Path) -> None:
    store = FileStore(tmp_path, durable=False)
    writer = store.create(A)
    writer.abort()
    other = store.create(B)  # gets the descriptor that has become free
    with pytest.raises(StoreError, match="cannot be written: Bad file descriptor"):
        writer.write(content("a"))
    other.write(content("b"))
    other.commit()
    assert store.open(B).view() == content("b")
    store.close()


def test_private_stores_get_a_directory_each_and_leave_nothing(tmp_path: Path) -> None:
    first, second = private_store(tmp_path), private_store(tmp_path)
    assert [store.directory for store in (first, second)] == [private_directory(tmp_path, n) for n in (0, 1)]
    assert stat.S_IMODE(first.directory.stat().st_mode) == 0o700
    keep(first)
    first.close()
    assert [path for path in first.directory.rglob("*") if path.is_file()] == [first.directory / "lock"]
    again = private_store(tmp_path)
    assert again.directory == first.directory
    again.close()
    second.close()


def test_what_killed_processes_left_in_shared_memory_is_used_or_thrown_away(tmp_path: Path) -> None:
    for number in range(3):
        left = FileStore(private_directory(tmp_path, number), durable=False)
        keep(left)
        left.close()
    living = FileStore(private_directory(tmp_path, 3), durable=False)
    keep(living)
    store = private_store(tmp_path)
    assert (store.directory, store.scan()) == (private_directory(tmp_path, 0), [A])
    full = {path.parent.parent for path in tmp_path.glob("*/sha256/*")}
    assert full == {store.directory, living.directory}
    store.close()
    living.close()


def test_what_is_no_directory_of_its_user_is_no_place_for_a_private_store(tmp_path: Path) -> None:
    private_directory(tmp_path, 0).write_bytes(b"a file")
    private_directory(tmp_path, 1).symlink_to(tmp_path)
    store = private_store(tmp_path)
    assert store.directory == private_directory(tmp_path, 2)
    store.close()


def test_a_directory_that_goes_while_others_are_swept_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "glob", lambda root, _: [private_directory(root, 7)])
    private_store(tmp_path).close()


def test_a_private_store_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"-0 cannot be made: No such file or directory\."):
        private_store(tmp_path / "missing")


def test_the_ram_tier_lies_in_shared_memory_and_is_gone_with_its_cache() -> None:
    with FragmentCache(CacheConfig(vram_bytes=0, ram_bytes=100)) as cache:
        cache.insert(A, content("a"))
        with cache.open(A) as lease:
            path = lease.path
        assert path is not None
        assert path.read_bytes() == content("a")
        assert subprocess.check_output(["stat", "--file-system", "--format=%T", path], text=True) == "tmpfs\n"
    assert not path.exists()


def test_a_disk_that_does_not_take_the_file_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with file_cache(tmp_path, ram=1000) as cache:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))
        try:
            with pytest.raises(StoreError, match="cannot be written: File too large"):
                cache.insert(A, content("a"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert cache.stats().tiers[RAM].used == 0
        assert not list((tmp_path / "ram" / "incoming").iterdir())


def test_a_disk_that_cannot_be_asked_for_room_takes_the_file_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    with file_cache(tmp_path, nvme=100) as cache:
        cache.insert(A, content("a"), tier=NVME)
        assert read(cache, A) == content("a")


def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "nvme").write_bytes(b"a file")
    with pytest.raises(StoreError, match="nvme cannot be used: Not a directory"):
        file_cache(tmp_path, nvme=100)
