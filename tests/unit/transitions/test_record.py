"""Records: their arithmetic and their form on disk."""

import json
from fractions import Fraction

import pytest

from arbiter.ids import GpuUuid, PodUid
from arbiter.transitions import InvalidRecordError, Record, decode, encode
from arbiter.transitions.record import MAX_PROMISES, Size

EMPTY = Record(uid=PodUid("chat"), name="team/chat", gpus=(GpuUuid("gpu-a"), GpuUuid("gpu-b")))


def promised(*sizes: int) -> Record:
    record = EMPTY
    for at, size in enumerate(sizes):
        record = record.promise(size=Size(Fraction(size, 10), size), now=float(at))
    return record


def test_a_record_survives_the_disk() -> None:
    record = promised(10, 7, 8)
    assert decode(encode(record)) == record
    assert decode(encode(EMPTY)) == EMPTY


@pytest.mark.parametrize(
    ("text", "sentence"),
    {
        "a torn write": ("{", "record cannot be read"),
        "another version": (json.dumps({"version": 9}), "record has version 9, this engine reads version 1"),
        "a missing field": (json.dumps({"version": 1}), "record cannot be read: KeyError"),
        "no object": ("[]", "record cannot be read"),
    }.values(),
)
def test_what_is_no_record_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InvalidRecordError, match=sentence):
        decode(text)


@pytest.mark.parametrize(
    ("record", "may_hold", "since"),
    {
        "nothing promised": (EMPTY, 0, None),
        "one size": (promised(8), 8, None),
        "a grow counts at once": (promised(6, 8), 8, None),
        "a shrink counts when it is confirmed": (promised(10, 6), 10, 1.0),
        "a confirmed shrink": (promised(10, 6).confirm(2), 6, None),
        "a grow after an unconfirmed shrink keeps its clock": (promised(10, 5, 8), 10, 1.0),
        "back up to the size before": (promised(10, 5, 10), 10, None),
        "confirmed, then told more": (promised(10, 5, 8).confirm(2), 8, None),
        "a confirmed step of several": (promised(10, 8, 5).confirm(2), 8, 2.0),
        "more unconfirmed shrinks than are kept": (promised(99, *range(60, 20, -1)), 99, 1.0),
    }.values(),
)
def test_what_a_container_may_hold_follows_from_its_promises(
    record: Record, may_hold: int, since: float | None
) -> None:
    assert (record.may_hold, record.shrinking_since) == (may_hold, since)
    assert len(record.promises) <= MAX_PROMISES


def test_times_in_the_future_become_now() -> None:
    assert promised(10, 6, 5).not_after(1.5).promises[2].at == 1.5
