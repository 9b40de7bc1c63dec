"""Which GPUs of a node are Arbiter's, and how much of them."""

from dataclasses import replace
from fractions import Fraction

from arbiter.ids import GpuUuid
from arbiter.units import GIB, MIB
from arbiter_deviceplugin.backends import Gpu, Reading
from arbiter_deviceplugin.selection import Selection

A = Gpu(uuid=GpuUuid("GPU-a"), index=0, name="SIM", total=12 * GIB, reserved=GIB)
B = Gpu(uuid=GpuUuid("GPU-b"), index=1, name="SIM", total=24 * GIB, reserved=0)
MIG = "GPU 2 (GPU-c) is in MIG mode"
READING = Reading(gpus=(A, B), left_out=(MIG,))


def test_all_of_every_gpu_where_nothing_is_set() -> None:
    assert Selection().of(READING) == READING


def test_gpus_are_named_by_index_or_uuid_and_the_others_are_left_out() -> None:
    only_b = Reading(gpus=(B,), left_out=(MIG, "GPU 0 (GPU-a) is not among --devices"))

    assert Selection(devices=("1",)).of(READING) == only_b
    assert Selection(devices=("GPU-b",)).of(READING) == only_b
    assert Selection(devices=("0", "GPU-b")).of(READING) == READING


def test_a_name_that_no_gpu_has_is_told() -> None:
    assert Selection(devices=("0", "1", "7")).of(READING) == replace(
        READING, left_out=(MIG, "--devices names 7, which no GPU of this node is called")
    )


def test_a_budget_leaves_its_share_of_what_is_usable() -> None:
    ours = Selection(budget=Fraction("0.9")).of(READING)

    assert [gpu.usable // MIB for gpu in ours.gpus] == [11 * 1024 * 9 // 10, 24 * 1024 * 9 // 10]
    assert [gpu.total for gpu in ours.gpus] == [12 * GIB, 24 * GIB]
