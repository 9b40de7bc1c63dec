"""Reports of the driver, GPUs and drivers that recover, and calls that hang."""

import asyncio
import threading
from dataclasses import replace

import pytest

from arbiter_deviceplugin.backends import BackendError, Gpu
from arbiter_deviceplugin.backends.nvml import NvmlBackend
from tests.component.deviceplugin.support import eventually
from tests.component.nvml.support import SA, SB, A, B, Clock, Make, eventually_reads, failing, lost, read
from tests.support.nvml_stub import DOUBLE_BIT_ECC, DRIVER_NOT_LOADED, LOST, UNKNOWN, VERSION_MISMATCH, XID, NvmlStub
from tests.support.patience import PATIENCE


async def reported(backend: NvmlBackend) -> tuple[Gpu, ...]:
    """What is read after a report was waited for."""
    async with asyncio.timeout(PATIENCE):
        await backend.idle()
    return await read(backend)


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        pytest.param(XID, 79, "the driver reported XID 79.", id="an XID"),
        pytest.param(DOUBLE_BIT_ECC, 0, "a double-bit memory error (ECC).", id="a double-bit error"),
    ],
)
async def test_a_report_makes_its_own_gpu_unhealthy_at_once(
    stub: NvmlStub, backend: NvmlBackend, kind: int, data: int, reason: str
) -> None:
    await backend.read()
    stub.happen("GPU-b", kind, data)

    assert await reported(backend) == (A, failing(B, reason))


async def test_xids_of_applications_and_those_to_be_ignored_leave_a_gpu_healthy(stub: NvmlStub, make: Make) -> None:
    backend = make(ignored_xids={94})
    await backend.read()
    for number in (13, 31, 43, 45, 68, 109, 94, 48):
        stub.happen("GPU-a" if number != 48 else "GPU-b", XID, number)

    assert await reported(backend) == (A, failing(B, "the driver reported XID 48."))


async def test_a_gpu_recovers_when_the_driver_asks_for_nothing_and_nothing_more_is_reported(
    stub: NvmlStub, backend: NvmlBackend, clock: Clock
) -> None:
    calm, asking = replace(SA, action=0), replace(SA, action=1)
    stub.write(calm)
    await backend.read()
    stub.happen("GPU-a", XID, 95)
    seen = [await reported(backend)]
    stub.write(asking)
    seen.append(await read(backend))
    stub.write(calm)
    for later in (59, 1):
        clock.now += later
        seen.append(await read(backend))

    xid = failing(A, "the driver reported XID 95.")
    assert seen == [(xid,), (failing(A, "the driver asks for a reset of the GPU."),), (xid,), (A,)]


async def test_an_error_that_passes_makes_no_faulty_gpu_healthy(stub: NvmlStub, backend: NvmlBackend) -> None:
    await backend.read()
    stub.happen("GPU-a", XID, 79)
    faulty = failing(A, "the driver reported XID 79.")
    assert await reported(backend) == (faulty, B)

    stub.write(SA, SB, rules=[f"error nvmlDeviceGetMemoryInfo_v2 {UNKNOWN} GPU-a"])

    assert await read(backend) == (faulty, B)


async def test_a_fault_of_an_old_driver_lasts_until_the_gpu_or_the_driver_was_away(
    stub: NvmlStub, backend: NvmlBackend, clock: Clock
) -> None:
    await backend.read()
    stub.happen("GPU-a", XID, 79)
    stub.happen("GPU-b", XID, 62)
    xids = failing(A, "the driver reported XID 79."), failing(B, "the driver reported XID 62.")
    await reported(backend)
    assert await reported(backend) == xids

    clock.now += 100_000
    stub.write(SA, SB, rules=[f"error * {LOST} GPU-a"])
    await backend.read()
    stub.write(SA, SB)
    assert await read(backend) == (A, xids[1])

    stub.write(rules=[f"error nvmlDeviceGetCount_v2 {DRIVER_NOT_LOADED}"])
    with pytest.raises(BackendError):
        await backend.read()
    stub.write(SA, SB)
    assert await read(backend) == (A, B)


async def test_what_was_reported_before_we_watched_is_told_by_what_the_driver_asks_for(
    stub: NvmlStub, backend: NvmlBackend
) -> None:
    stub.write(replace(SA, action=2))

    assert await read(backend) == (failing(A, "the driver asks for a reboot of the node."),)


async def test_a_driver_that_is_loaded_later_or_again_is_found_without_a_restart_of_ours(
    stub: NvmlStub, backend: NvmlBackend
) -> None:
    stub.write(rules=[f"error nvmlInitWithFlags {DRIVER_NOT_LOADED}"])
    with pytest.raises(BackendError, match="NVML does not answer: Driver Not Loaded"):
        await backend.read()
    stub.write(SA)
    assert await read(backend) == (A,)

    stub.write(rules=[f"error * {VERSION_MISMATCH}"])
    with pytest.raises(BackendError, match="version mismatch; restart the agent"):
        await backend.read()
    stub.write(SA)
    assert await read(backend) == (A,)
    stub.happen("GPU-a", XID, 79)
    assert await reported(backend) == (failing(A, "the driver reported XID 79."),)


async def test_a_gpu_that_hangs_harms_only_itself_and_recovers_when_it_answers(stub: NvmlStub, make: Make) -> None:
    backend = make(limit=0.2)
    await backend.read()
    threads = threading.active_count()
    stub.write(SA, SB, rules=["hang nvmlDeviceGetMemoryInfo_v2 GPU-b"])

    assert await read(backend) == (A, lost(B, "nvml-1 did not answer within 0.2 s"))
    for _ in range(5):
        assert await read(backend) == (A, lost(B, "nvml-1 has not answered an earlier call yet"))
    assert threading.active_count() == threads

    stub.write(SA, SB)
    await eventually_reads(backend, (A, B))


@pytest.mark.parametrize(
    ("call", "was_read"),
    [
        ("nvmlInitWithFlags", False),
        ("nvmlEventSetCreate", False),
        ("nvmlDeviceGetCount_v2", False),
        ("nvmlDeviceGetCount_v2", True),
    ],
)
async def test_a_library_that_hangs_does_not_stall_the_loop_and_is_read_again_when_it_answers(
    stub: NvmlStub, make: Make, call: str, *, was_read: bool
) -> None:
    backend = make(limit=0.2)
    if was_read:
        await backend.read()
    stub.write(SA, SB, rules=[f"hang {call}"])
    reading = asyncio.ensure_future(backend.read())
    turns = 0
    while not reading.done():
        await asyncio.sleep(0.01)
        turns += 1

    with pytest.raises(BackendError, match="did not answer"):
        await reading
    assert turns > 3
    stub.write(SA, SB)
    await eventually_reads(backend, (A, B))


async def test_gpus_that_nobody_watches_any_more_are_not_taken_for_healthy(stub: NvmlStub, make: Make) -> None:
    backend = make(limit=0.1)
    await backend.read()
    stub.write(SA, SB, rules=["hang nvmlEventSetWait_v2"])
    async with asyncio.timeout(PATIENCE):
        await backend.idle()
    with pytest.raises(BackendError, match="waits for health events has not returned"):
        await backend.read()

    stub.write(SA, SB)
    await eventually_reads(backend, (A, B))


async def test_a_library_that_hangs_does_not_keep_us_from_ending(stub: NvmlStub, make: Make) -> None:
    backend = make(limit=0.1)
    await backend.read()
    stub.write(SA, SB, rules=["hang nvmlShutdown"])

    async with asyncio.timeout(PATIENCE):
        await backend.close()
    assert "nvml" in {thread.name for thread in threading.enumerate()}

    stub.write(SA, SB)
    await eventually(lambda: "nvml" not in {thread.name for thread in threading.enumerate()}, "end of the thread")
