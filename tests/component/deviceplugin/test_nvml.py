"""The nvml backend through the real pynvml, in a process that loads a stub of NVIDIA's library."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arbiter.units import GIB, MIB
from tests.support.nvml_stub import DRIVER_NOT_LOADED, LOST, NvmlStub, StubGpu, build

READER = """
import asyncio, dataclasses, json, sys
from arbiter_deviceplugin.backends import BackendError
from arbiter_deviceplugin.backends.nvml import NvmlBackend

async def main():
    backend = NvmlBackend(limit=float(sys.argv[1]))
    for _ in sys.stdin:
        try:
            reading = await backend.read()
            answer = [dataclasses.asdict(gpu) for gpu in reading.gpus]
        except BackendError as error:
            answer = str(error)
        print(json.dumps(answer), flush=True)
    await backend.close()

asyncio.run(main())
"""


class Reader:
    """A process that reads its GPUs whenever it is asked."""

    def __init__(self, stub: NvmlStub, *, limit: float = 10.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", READER, str(limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=stub.environment,
        )

    def read(self) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> int:
        self._process.communicate(timeout=20)
        return self._process.returncode


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def stub(library: Path, tmp_path: Path) -> NvmlStub:
    return NvmlStub(library, tmp_path / "state")


@pytest.fixture
def reader(stub: NvmlStub) -> Iterator[Reader]:
    reader = Reader(stub)
    yield reader
    assert reader.end() == 0


def described(uuid: str, index: int = 0, **changes: object) -> dict[str, object]:
    gpu = {"uuid": uuid, "index": index, "name": "Stub", "total": 12 * GIB, "reserved": 368 * MIB, "used": GIB}
    return {**gpu, "healthy": True, "reason": None, **changes}


def stubbed(uuid: str, **changes: Any) -> StubGpu:
    return StubGpu(**{"uuid": uuid, "total": 12 * GIB, "reserved": 368 * MIB, "used": GIB, **changes})


def test_gpus_are_read_with_what_the_driver_reserves(stub: NvmlStub, reader: Reader) -> None:
    stub.write([stubbed("GPU-a"), stubbed("GPU-b")])

    assert reader.read() == [described("GPU-a"), described("GPU-b", 1)]


def test_an_old_driver_that_does_not_tell_its_reserve_is_given_three_percent(stub: NvmlStub, reader: Reader) -> None:
    stub.write([stubbed("GPU-a", reserved=0)], has_memory_v2=False)

    assert reader.read() == [described("GPU-a", reserved=12 * GIB * 3 // 100)]


def test_a_small_gpu_of_an_old_driver_keeps_at_least_256_mib_back(stub: NvmlStub, reader: Reader) -> None:
    stub.write([stubbed("GPU-a", total=4 * GIB, reserved=0)], has_memory_v2=False)

    assert reader.read() == [described("GPU-a", total=4 * GIB, reserved=256 * MIB)]


def test_a_lost_gpu_is_shown_as_it_was_but_not_healthy_and_may_come_back(stub: NvmlStub, reader: Reader) -> None:
    stub.write([stubbed("GPU-a"), stubbed("GPU-b")])
    reader.read()

    stub.write([stubbed("GPU-a"), stubbed("GPU-b", status=LOST)])
    lost = described("GPU-b", 1, used=None, healthy=False, reason="NVML cannot read it: GPU is lost.")
    assert reader.read() == [described("GPU-a"), lost]

    stub.write([stubbed("GPU-a"), stubbed("GPU-b")])
    assert reader.read() == [described("GPU-a"), described("GPU-b", 1)]


def test_a_driver_that_is_loaded_later_is_found_later(stub: NvmlStub, reader: Reader) -> None:
    stub.write([], init_status=DRIVER_NOT_LOADED)
    assert reader.read() == "NVML does not answer: Driver Not Loaded."

    stub.write([stubbed("GPU-a")])
    assert reader.read() == [described("GPU-a")]


def test_a_driver_that_hangs_neither_stalls_the_loop_nor_the_exit(stub: NvmlStub) -> None:
    stub.write([stubbed("GPU-a")], init_status=-60)
    reader = Reader(stub, limit=0.2)

    assert reader.read() == "nvml did not answer within 0.2 s."
    assert reader.read() == "nvml has not answered an earlier call yet."
    assert reader.end() == 0


def test_without_nvidias_library_the_backend_says_so(tmp_path: Path) -> None:
    reader = Reader(NvmlStub(tmp_path, tmp_path / "state"))

    assert reader.read() == "NVML does not answer: NVML Shared Library Not Found."
    assert reader.end() == 0
