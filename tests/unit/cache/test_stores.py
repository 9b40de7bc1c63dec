"""The fragment cache on stores of others: a device, and such as fail."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from arbiter.cache import AccountingStore, Content, Fragment, FragmentId, NoBytesError, StoreError, Writer
from arbiter.cache.fragment import BytesLike
from tests.unit.cache.support import RAM, VRAM, A, B, content, file_cache, put, read, used


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


def test_a_store_that_fails_leaves_no_bytes_behind(tmp_path: Path) -> None:
    device = DeviceStore(broken=True)
    with file_cache(tmp_path, vram=100, ram=100, stores={VRAM: device}) as cache:
        with pytest.raises(StoreError, match="the device is gone"):
            put(cache, "a", tier=VRAM)
        assert (used(cache), device.memory) == ({VRAM: 0, RAM: 0}, {A.id: bytearray()})


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
