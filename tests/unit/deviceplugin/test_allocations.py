"""The plugin's own ledger, and what of it is on the disk."""

from pathlib import Path

import pytest

from arbiter.ids import PodUid
from arbiter.transitions import Record
from arbiter_deviceplugin.allocations import Allocation, Allocations, Claims, InvalidAllocationError, decode, encode
from arbiter_deviceplugin.disk import Disk, StateError
from arbiter_deviceplugin.slices import SliceId, gpus_of


def made(directory: str, *slices: str, at: float = 0.0, uid: str | None = None) -> Allocation:
    return Allocation(
        directory=directory,
        slices=tuple(SliceId(slice_) for slice_ in slices),
        gpus=gpus_of(SliceId(slice_) for slice_ in slices),
        at=at,
        uid=PodUid(uid) if uid else None,
    )


def claims(*uids: str, slices: tuple[str, ...] = ()) -> Claims:
    return Claims(slices=frozenset(SliceId(s) for s in slices), uids=frozenset(PodUid(uid) for uid in uids))


def test_an_allocation_reads_back_as_it_was_written() -> None:
    allocation = made("d1", "a::0", "b::1", at=12.5, uid="u1")

    assert decode(encode(allocation)) == allocation
    assert b'"version":1' in encode(allocation)


@pytest.mark.parametrize("text", [b"", b"{}", encode(made("d", "a::0")).replace(b'"version":1', b'"version":2')])
def test_what_is_no_allocation_of_this_version_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidAllocationError):
        decode(text)


def test_of_two_allocations_of_the_same_slices_the_newer_one_counts() -> None:
    ledger = Allocations([made("new", "a::0", at=2.0), made("old", "a::0", at=1.0, uid="u1")])

    assert ledger.of_slices(frozenset({SliceId("a::0")})) == made("new", "a::0", at=2.0)
    assert ledger.taken() == {SliceId("a::0")}


STALE = {
    "nobody knows it and it is old": (made("d", "a::0"), claims(), True),
    "it is young": (made("d", "a::0", at=950.0), claims(), False),
    "the kubelet lists its slices": (made("d", "a::0"), claims(slices=("a::0", "a::1")), False),
    "its pod exists": (made("d", "a::0", uid="u1"), claims("u1"), False),
    "its pod is gone": (made("d", "a::0", uid="u1"), claims("u2"), True),
    "its pod is gone and its slices are another's": (made("d", "a::0", uid="u1"), claims("u2", slices=("a::0",)), True),
}


@pytest.mark.parametrize(("allocation", "known", "stale"), STALE.values(), ids=STALE.keys())
def test_an_allocation_is_stale_when(allocation: Allocation, known: Claims, stale: bool) -> None:
    ledger = Allocations([allocation])

    looks = [ledger.stale(known, now=1000.0) for _ in range(2)]

    assert looks == [[], [allocation] if stale else []]


def test_one_empty_list_of_a_kubelet_that_has_just_started_makes_nothing_stale() -> None:
    ledger = Allocations([made("d", "a::0")])

    looks = [
        ledger.stale(known, now=1000.0)
        for known in (claims(), claims(slices=("a::0",)), claims(), claims(slices=("a::0",)))
    ]

    assert looks == [[], [], [], []]


def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "state")
    record, allocation = Record(uid=PodUid("u1"), name="team/chat", start=1), made("d1", "a::0", uid="u1")
    disk.save_record(record)
    disk.save_allocation(allocation)
    disk.save_unit(1 << 30)
    (tmp_path / "state" / "records" / ".u2.json.new").write_text("half a rec")

    again = Disk(tmp_path / "state")

    assert (again.records(), again.allocations(), again.unit()) == ((record,), (allocation,), 1 << 30)
    assert [path.name for path in (tmp_path / "state" / "records").iterdir()] == ["u1.json"]


def test_what_was_deleted_is_gone(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.save_record(Record(uid=PodUid("u1")))
    disk.save_allocation(made("d1", "a::0"))
    disk.delete_record(PodUid("u1"))
    disk.delete_allocation(made("d1", "a::0"))
    disk.delete_record(PodUid("never-there"))

    assert (disk.records(), disk.allocations(), disk.unit()) == ((), (), None)


@pytest.mark.parametrize("name", ["records/u1.json", "allocations/d1.json", "unit.json"])
def test_state_that_cannot_be_read_stops_the_agent_and_names_the_file(tmp_path: Path, name: str) -> None:
    disk = Disk(tmp_path)
    (tmp_path / name).write_text("{]")

    with pytest.raises(StateError, match=str(tmp_path / name)):
        print(disk.records(), disk.allocations(), disk.unit())
