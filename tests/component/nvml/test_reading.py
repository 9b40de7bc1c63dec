"""What the backend reads of GPUs: sizes, links, users, and GPUs that cannot be read any more."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arbiter.ids import GpuUuid
from arbiter.units import GIB, MIB
from arbiter_deviceplugin.backends import BackendError, Limits, Reading
from arbiter_deviceplugin.backends.nvml import NvmlBackend
from tests.component.nvml.support import POD, SA, SB, STATIC, A, B, Clock, failing, lost, read
from tests.support.nvml_stub import FUNCTION_NOT_FOUND, LOST, NOT_SUPPORTED, UNKNOWN, NvmlStub, StubProcess
from tests.support.patience import PATIENCE


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
    seen = [await backend.read() for _ in range(3)]

    assert [reading.gpus for reading in seen] == [(A, B), (A, B), (lost(A, "Unknown Error"), B)]
    assert [reading.unread for reading in seen] == [{A.uuid}] * 3


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
