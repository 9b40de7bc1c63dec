"""The nvml backend through the real pynvml, which finds a stub of NVIDIA's library already loaded."""

import asyncio
import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arbiter.ids import GpuUuid
from arbiter.units import GIB, MIB
from arbiter_deviceplugin.backends import BackendError, Gpu, Limits, Reading
from arbiter_deviceplugin.backends.nvml import NvmlBackend
from tests.component.deviceplugin.support import PATIENCE, eventually
from tests.support.nvml_stub import (
    DOUBLE_BIT_ECC,
    DRIVER_NOT_LOADED,
    FUNCTION_NOT_FOUND,
    LOST,
    NOT_SUPPORTED,
    UNKNOWN,
    VARIABLE,
    VERSION_MISMATCH,
    XID,
    NvmlStub,
    StubGpu,
    StubProcess,
    build,
)

RESERVED = 368 * MIB
A = Gpu(
    uuid=GpuUuid("GPU-a"), index=0, name="Stub", total=12 * GIB, reserved=RESERVED, used=0, use={}, limits=Limits.MISC
)
B = replace(A, uuid=GpuUuid("GPU-b"), index=1)

POD = "11111111-2222-3333-4444-555555555555"
STATIC = "0123456789abcdef0123456789abcdef"
CONTAINER = "a" * 64


def stubbed(gpu: Gpu, **changes: Any) -> StubGpu:
    return StubGpu(**{"uuid": gpu.uuid, "total": gpu.total, "reserved": gpu.reserved, **changes})


SA, SB = stubbed(A), stubbed(B)


def lost(gpu: Gpu, why: str) -> Gpu:
    return replace(gpu, used=None, healthy=False, reason=f"NVML cannot read it: {why}.")


def failing(gpu: Gpu, reason: str) -> Gpu:
    return replace(gpu, healthy=False, reason=reason)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built and loaded: pynvml's own dlopen then finds it by its name."""
    library = build(tmp_path_factory.mktemp("nvml"))
    ctypes.CDLL(str(library))
    return library


@pytest.fixture
def stub(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NvmlStub:
    stub = NvmlStub(library, tmp_path / "script")
    stub.write(SA, SB)
    monkeypatch.setenv(VARIABLE, str(stub.script))
    return stub


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Some processes: two of one pod, one of a static pod and one of the host; and our own group."""
    groups = {
        "101": f"0::/kubepods/burstable/pod{POD}/{CONTAINER}",
        "102": f"0::/kubepods/burstable/pod{POD}/{CONTAINER}/inner",
        "103": f"0::/kubepods.slice/kubepods-pod{STATIC}.slice/cri-containerd-{CONTAINER}.scope",
        "104": "0::/user.slice/session-1.scope",
        "self": "0::/kubepods/pod-of-the-agent",
    }
    for process, text in groups.items():
        (tmp_path / "proc" / process).mkdir(parents=True)
        (tmp_path / "proc" / process / "cgroup").write_text(text + "\n")
    return tmp_path / "proc"


class Clock:
    """A time that tests set, for everything but the limit of a call."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Make = Callable[..., NvmlBackend]


@pytest.fixture
async def make(stub: NvmlStub, proc: Path, clock: Clock) -> AsyncIterator[Make]:
    """Makes backends, and closes them whatever the script says then."""
    made: list[NvmlBackend] = []

    def make(**options: Any) -> NvmlBackend:
        made.append(NvmlBackend(**{"proc": proc, "clock": clock, "limit": PATIENCE, **options}))
        return made[-1]

    yield make
    stub.write(SA, SB)
    for backend in made:
        await backend.close()


@pytest.fixture
def backend(make: Make) -> NvmlBackend:
    return make()


async def read(backend: NvmlBackend) -> tuple[Gpu, ...]:
    return (await backend.read()).gpus


async def test_gpus_are_read_with_what_the_driver_reserves(stub: NvmlStub, backend: NvmlBackend) -> None:
    stub.write(replace(SA, used=100 * MIB), replace(SB, name="H100", minor=7))

    assert await read(backend) == (replace(A, used=100 * MIB), replace(B, name="H100"))


OLD = f"error nvmlDeviceGetMemoryInfo_v2 {FUNCTION_NOT_FOUND}"


@pytest.mark.parametrize(
    ("total", "reserve"),
    [
        pytest.param(12 * GIB, 12 * GIB * 3 // 100, id="three percent"),
        pytest.param(4 * GIB, 256 * MIB, id="at least 256 MiB"),
    ],
)
async def test_an_old_driver_that_does_not_tell_its_reserve_is_given(
    stub: NvmlStub, backend: NvmlBackend, total: int, reserve: int
) -> None:
    stub.write(
        replace(SA, total=total, reserved=reserve, used=GIB, processes=(StubProcess(pid=104, used=GIB),)), rules=[OLD]
    )

    assert await read(backend) == (replace(A, total=total, reserved=reserve, used=GIB),)


async def test_gpus_are_told_by_uuid_and_ordered_by_nvmls_index_whatever_their_device_files_are(
    stub: NvmlStub, backend: NvmlBackend
) -> None:
    stub.write(replace(SB, minor=0), replace(SA, minor=1))

    assert [(gpu.uuid, gpu.index) for gpu in await read(backend)] == [(B.uuid, 0), (A.uuid, 1)]


async def test_links_are_the_gpus_that_nvlink_reaches(stub: NvmlStub, backend: NvmlBackend) -> None:
    stub.write(
        SA, SB, replace(SA, uuid="GPU-c"), replace(SA, uuid="GPU-d"), rules=["link GPU-a GPU-c", "link GPU-c GPU-b"]
    )

    assert {gpu.uuid: gpu.links for gpu in await read(backend)} == {
        "GPU-a": ("GPU-c",),
        "GPU-b": ("GPU-c",),
        "GPU-c": ("GPU-a", "GPU-b"),
        "GPU-d": (),
    }


async def test_a_gpu_in_mig_mode_is_left_out_with_the_reason(stub: NvmlStub, backend: NvmlBackend) -> None:
    stub.write(SA, replace(SB, mig=True))

    assert await backend.read() == Reading(gpus=(A,), left_out=("GPU 1 (GPU-b) is in MIG mode",))


async def test_a_gpu_that_is_switched_to_mig_mode_keeps_its_slices_and_is_not_healthy(
    stub: NvmlStub, backend: NvmlBackend
) -> None:
    await backend.read()
    stub.write(SA, replace(SB, mig=True))

    assert await backend.read() == Reading(gpus=(A, failing(B, "it was switched to MIG mode.")))


USERS = (
    StubProcess(pid=101, used=2 * GIB),
    StubProcess(pid=102, used=GIB),
    StubProcess(pid=103, used=GIB),
    StubProcess(pid=104, used=GIB),
    StubProcess(pid=104, used=GIB, kind="graphics"),
    StubProcess(pid=101, used=2 * GIB, kind="graphics"),
)


async def test_memory_is_attributed_to_pods_by_the_control_groups_of_their_processes(
    stub: NvmlStub, backend: NvmlBackend
) -> None:
    stub.write(replace(SA, used=5 * GIB, processes=USERS), SB)
    reading = await backend.read()

    assert [gpu.use for gpu in reading.gpus] == [{POD: 3 * GIB, STATIC: GIB}, {}]
    assert reading.use_of((POD,), (A.uuid, B.uuid)) == 3 * GIB


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        pytest.param({"used": 5 * GIB}, [], id="processes are missing, as without the host's process ids"),
        pytest.param(
            {"used": 5 * GIB, "processes": (StubProcess(pid=999, used=5 * GIB),)},
            [],
            id="the listed processes are not those that /proc shows",
        ),
        pytest.param({"processes": (StubProcess(pid=101, used=-1),)}, [], id="the driver has no sizes"),
        pytest.param({}, [f"error nvmlDeviceGetComputeRunningProcesses_v3 {NOT_SUPPORTED}"], id="there is no list"),
        pytest.param(
            {"processes": (StubProcess(pid=101, used=GIB, kind="mps"),)}, [], id="a server of MPS allocates for others"
        ),
    ],
)
async def test_who_uses_what_is_not_told_where(
    stub: NvmlStub, backend: NvmlBackend, changes: dict[str, Any], rules: list[str]
) -> None:
    stub.write(replace(SA, **changes), rules=rules)

    assert [gpu.use for gpu in await read(backend)] == [None]


async def test_one_reading_with_use_that_nobody_explains_may_be_a_process_that_just_came(
    stub: NvmlStub, backend: NvmlBackend
) -> None:
    told = []
    for used in (0, 5 * GIB, 5 * GIB, 5 * GIB, 0):
        stub.write(replace(SA, used=used))
        told.append([gpu.use for gpu in await read(backend)])

    assert told == [[{}], [{}], [{}], [None], [{}]]


async def test_a_lost_gpu_is_shown_as_it_was_but_not_healthy_and_may_come_back(
    stub: NvmlStub, backend: NvmlBackend
) -> None:
    users = replace(SB, used=GIB, processes=(StubProcess(pid=101, used=GIB),))
    b = replace(B, used=GIB, use={POD: GIB})
    stub.write(SA, users)
    await backend.read()

    stub.write(SA, users, rules=[f"error * {LOST} GPU-b"])
    assert await read(backend) == (A, lost(b, "GPU is lost"))

    stub.write(SA, users)
    assert await read(backend) == (A, b)


async def test_a_gpu_that_fell_off_the_bus_moves_the_others_indices_and_is_found_again_when_it_is_back(
    stub: NvmlStub, backend: NvmlBackend, clock: Clock
) -> None:
    await backend.read()
    stub.write(SB)
    assert await read(backend) == (lost(A, "GPU is lost"), B)

    clock.now += 10
    assert await read(backend) == (lost(A, "it is not listed any more"), replace(B, index=0))

    stub.write(SA, SB)
    clock.now += 1000
    assert await read(backend) == (A, B)


async def test_an_error_that_passes_does_not_stop_a_gpu(stub: NvmlStub, backend: NvmlBackend) -> None:
    await backend.read()
    stub.write(SA, SB, rules=[f"error nvmlDeviceGetMemoryInfo_v2 {UNKNOWN} GPU-a"])
    seen = [await read(backend) for _ in range(3)]

    assert seen == [(A, B), (A, B), (lost(A, "Unknown Error"), B)]


@pytest.mark.parametrize(
    "rule",
    [
        f"error nvmlDeviceGetMigMode {NOT_SUPPORTED}",
        f"error nvmlDeviceGetFieldValues {FUNCTION_NOT_FOUND}",
        f"error nvmlDeviceGetP2PStatus {NOT_SUPPORTED}",
        f"error nvmlDeviceGetGraphicsRunningProcesses_v3 {NOT_SUPPORTED}",
        f"error nvmlDeviceGetMPSComputeRunningProcesses_v3 {FUNCTION_NOT_FOUND}",
        f"error nvmlDeviceGetMemoryLimits_v1 {FUNCTION_NOT_FOUND}",
        f"error nvmlDeviceGetSupportedEventTypes {UNKNOWN}",
        f"error nvmlDeviceRegisterEvents {NOT_SUPPORTED}",
        f"error nvmlEventSetCreate {UNKNOWN}",
    ],
)
async def test_a_board_or_driver_that_lacks_a_call_is_read_all_the_same(
    stub: NvmlStub, backend: NvmlBackend, rule: str
) -> None:
    stub.write(SA, rules=[rule])

    assert await read(backend) == (replace(A, limits=None if "Limits" in rule else Limits.MISC),)


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


async def eventually_reads(backend: NvmlBackend, gpus: tuple[Gpu, ...]) -> None:
    async def does() -> bool:
        with suppress(BackendError):
            return await read(backend) == gpus
        return False

    await eventually(does, "recovery")


@pytest.mark.parametrize("call", ["nvmlInitWithFlags", "nvmlEventSetCreate", "nvmlDeviceGetCount_v2"])
async def test_a_library_that_hangs_does_not_stall_the_loop_and_is_read_again_when_it_answers(
    stub: NvmlStub, make: Make, call: str
) -> None:
    backend = make(limit=0.2)
    if call == "nvmlDeviceGetCount_v2":
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


async def test_limits_are_set_by_full_path_without_a_guaranteed_share(stub: NvmlStub, backend: NvmlBackend) -> None:
    (a, b) = await read(backend)
    await backend.limit(a.uuid, "/kubepods/x", 5 * GIB)
    await backend.limit(b.uuid, "/kubepods/x", 6 * GIB)

    assert (a.limits, b.limits) == (Limits.MISC, Limits.MISC)
    assert stub.limits == [
        f"GPU-a /sys/fs/cgroup/kubepods/x 0 {5 * GIB}",
        f"GPU-b /sys/fs/cgroup/kubepods/x 0 {6 * GIB}",
    ]


async def test_a_limit_that_cannot_be_set_is_an_error_that_names_the_gpu(stub: NvmlStub, backend: NvmlBackend) -> None:
    await backend.read()
    stub.write(SA, SB, rules=["error nvmlDeviceSetMemoryLimits_v1 4"])

    with pytest.raises(BackendError, match=r"NVML sets no limit on GPU-a: .*\."):
        await backend.limit(A.uuid, "/kubepods/x", GIB)
    with pytest.raises(BackendError, match=r"NVML does not list GPU-c\."):
        await backend.limit(GpuUuid("GPU-c"), "/kubepods/x", GIB)


WITHOUT_LIBRARY = """
import asyncio
from arbiter_deviceplugin.backends import BackendError
from arbiter_deviceplugin.backends.nvml import NvmlBackend

async def main():
    backend = NvmlBackend()
    try:
        await backend.read()
    except BackendError as error:
        print(error)
    await backend.close()

asyncio.run(main())
"""


def test_without_nvidias_library_the_backend_says_so(tmp_path: Path) -> None:
    # A file of that name that is no library hides one that the machine may have.
    (tmp_path / "libnvidia-ml.so.1").touch()
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBRARY],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    assert done.stdout == "NVML does not answer: NVML Shared Library Not Found.\n"
