"""Which slices are offered, and which are preferred."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.ids import GpuUuid
from arbiter.units import GIB, MIB
from arbiter_deviceplugin.backends import Gpu
from arbiter_deviceplugin.plugin import slice_list
from arbiter_deviceplugin.slices import (
    MOST_SLICES,
    Slice,
    SliceId,
    count_by_gpu,
    gpus_of,
    offered,
    preferred,
    slice_id,
)

KUBELETS_LIMIT = 4 << 20
"""What gRPC takes in one message unless it is told otherwise, in bytes."""


def ids(text: str) -> tuple[SliceId, ...]:
    """``a0 a1 b3`` for slices 0 and 1 of GPU a, and 3 of b."""
    return tuple(slice_id(GpuUuid(word[0]), int(word[1:])) for word in text.split())


def gpu(uuid: str, *, total: int, reserved: int = 0, healthy: bool = True) -> Gpu:
    return Gpu(uuid=GpuUuid(uuid), index=0, name="", total=total, reserved=reserved, healthy=healthy)


def test_a_gpu_has_as_many_slices_as_whole_units_are_usable() -> None:
    gpus = [gpu("a", total=3 * GIB, reserved=368 * MIB), gpu("b", total=GIB, healthy=False)]

    assert offered(gpus, unit=GIB, withheld=False, held=()) == (
        Slice(SliceId("a::0"), healthy=True),
        Slice(SliceId("a::1"), healthy=True),
        Slice(SliceId("b::0"), healthy=False),
    )


def test_what_is_withheld_stays_in_the_list_and_is_not_healthy() -> None:
    alone = [gpu("a", total=GIB)]

    assert offered(alone, unit=GIB, withheld=True, held=()) == (Slice(SliceId("a::0"), healthy=False),)


def test_what_is_held_stays_in_the_list_though_its_gpu_is_gone_or_has_become_smaller() -> None:
    assert offered([gpu("a", total=GIB)], unit=GIB, withheld=False, held=ids("a0 a1 b0")) == (
        Slice(SliceId("a::0"), healthy=True),
        Slice(SliceId("a::1"), healthy=False),
        Slice(SliceId("b::0"), healthy=False),
    )


@pytest.mark.parametrize("unit", [GIB, 512 * MIB, 256 * MIB, 128 * MIB, 64 * MIB], ids=lambda unit: f"{unit // MIB}Mi")
def test_the_list_of_sixteen_gpus_of_192_gib_is_short_enough_for_the_kubelet(unit: int) -> None:
    gpus = [
        gpu(f"GPU-{number:08x}-0000-4000-8000-000000000000", total=192 * GIB, healthy=False) for number in range(16)
    ]

    message = slice_list(offered(gpus, unit=unit, withheld=False, held=()))

    assert len(message.devices) == 16 * 192 * GIB // unit
    assert message.ByteSize() < KUBELETS_LIMIT


def test_the_longest_list_that_is_ever_shown_is_short_enough_for_the_kubelet() -> None:
    one = gpu("GPU-00000000-0000-4000-8000-000000000000", total=MOST_SLICES * GIB, healthy=False)

    message = slice_list(offered([one], unit=GIB, withheld=False, held=()))

    assert len(message.devices) == MOST_SLICES
    assert message.ByteSize() < KUBELETS_LIMIT


def test_a_list_that_the_kubelet_would_not_take_is_not_shown_but_for_what_is_held() -> None:
    assert offered([gpu("a", total=192 * 16 * GIB)], unit=32 * MIB, withheld=False, held=ids("a7")) == (
        Slice(SliceId("a::7"), healthy=False),
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    available: str
    required: str = ""
    size: int
    gpus: str = ""
    taken: str = ""
    chosen: str


CASES = {
    "the assigned GPU's, lowest numbers first": Case(available="b0 b1 b2 a10 a2 a1", size=2, gpus="a", chosen="a1 a2"),
    "half of each of two assigned GPUs": Case(available="a0 a1 a2 b0 b1 b2", size=4, gpus="a b", chosen="a0 a1 b0 b1"),
    "one more of the first where it does not divide": Case(
        available="a0 a1 a2 b0 b1 b2", size=3, gpus="b a", chosen="b0 b1 a0"
    ),
    "the required ones count as their GPU's share": Case(
        available="a0 a1 a2 b0 b1", required="a2", size=2, gpus="a", chosen="a2 a0"
    ),
    "slices that somebody may still have come last": Case(
        available="a0 a1 a2 a3", size=2, gpus="a", taken="a0 a1", chosen="a2 a3"
    ),
    "but they are used before another GPU is": Case(
        available="a0 a1 b0 b1", size=2, gpus="a", taken="a0 a1", chosen="a0 a1"
    ),
    "what the assigned GPU lacks comes from the tightest other": Case(
        available="a0 b0 b1 b2 c0 c1", size=3, gpus="a", chosen="a0 c0 c1"
    ),
    "nobody knows the pod: the tightest GPU that has enough": Case(available="a0 a1 a2 b0 b1", size=2, chosen="b0 b1"),
    "nobody knows the pod and no GPU has enough: the freest first": Case(
        available="a0 b0 b1 c0", size=3, chosen="b0 b1 a0"
    ),
    "an assigned GPU that is not there": Case(available="a0 a1", size=1, gpus="z", chosen="a0"),
    "nothing is wanted": Case(available="a0", size=0, gpus="a", chosen=""),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_preferred_slices_are(case: Case) -> None:
    assert preferred(
        ids(case.available),
        required=ids(case.required),
        size=case.size,
        gpus=[GpuUuid(name) for name in case.gpus.split()],
        taken=frozenset(ids(case.taken)),
    ) == ids(case.chosen)


SLICES = st.sets(st.builds(slice_id, st.sampled_from([GpuUuid(name) for name in "abc"]), st.integers(0, 7)))


@given(data=st.data(), available=SLICES, taken=SLICES, gpus=st.sets(st.sampled_from([GpuUuid(n) for n in "abcd"])))
def test_the_answer_has_always_exactly_the_size_and_nothing_else(
    data: st.DataObject, available: set[SliceId], taken: set[SliceId], gpus: set[GpuUuid]
) -> None:
    size = data.draw(st.integers(0, len(available)))
    required = sorted(data.draw(st.sets(st.sampled_from(sorted(available)), max_size=size)) if size else ())

    chosen = preferred(available, required=required, size=size, gpus=sorted(gpus), taken=taken)

    assert len(chosen) == size == len(set(chosen))
    assert set(required) <= set(chosen) <= available
    free = {gpu: count_by_gpu(available - taken).get(gpu, 0) for gpu in gpus}
    if len(gpus) == 1 and not required and free[next(iter(gpus))] >= size > 0:
        assert gpus_of(chosen) == tuple(gpus)
        assert not taken & set(chosen)
