"""`make gpu-check` on a machine whose driver and CUDA are stubs: what it does where there is a real GPU."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from arbiter.units import GIB, MIB
from tests.support import cuda_stub, nvml_stub
from tests.support.nvml_stub import NvmlStub, StubGpu, StubProcess

TOTAL, RESERVED = 24 * GIB, 512 * MIB


class Machine:
    """One GPU of 24 GiB; what processes hold by the stub of CUDA is what NVML's shows."""

    def __init__(self, root: Path) -> None:
        self.out = root / "out"
        self._held = root / "held"
        for directory in (self.out, self._held):
            directory.mkdir()
        cuda_stub.build(root)
        self._nvml = NvmlStub(nvml_stub.build(root), root / "script")
        self._show()

    @property
    def environment(self) -> dict[str, str]:
        ours = {"OUT": str(self.out), cuda_stub.VARIABLE: str(self._held), "PATH": "/nowhere"}
        return {**self._nvml.environment, **ours}

    def check(self) -> subprocess.CompletedProcess[str]:
        """Runs gpu-check; the stub of NVML is kept in step meanwhile."""
        with self._shown():
            return gpu_check(self.environment)

    @contextmanager
    def _shown(self) -> Iterator[None]:
        over = threading.Event()

        def keep() -> None:
            while not over.wait(0.005):
                self._show()

        thread = threading.Thread(target=keep)
        thread.start()
        yield
        over.set()
        thread.join()

    def _show(self) -> None:
        processes = [StubProcess(pid=pid, used=size) for pid, size in cuda_stub.held(self._held).items()]
        used = sum(process.used for process in processes)
        self._nvml.write(
            StubGpu(uuid="GPU-0", total=TOTAL, reserved=RESERVED, used=used, processes=processes, action=0)
        )


def gpu_check(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hack.gpu_check"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_two_processes_share_the_gpu_and_what_was_seen_is_written_down(machine: Machine) -> None:
    done = machine.check()

    assert (done.returncode, done.stderr) == (0, "")
    block = (machine.out / "gpu-check.md").read_text()
    assert block in done.stdout
    assert "FAILED" not in block
    for point in (
        "| held | GPU 0 is healthy | nothing reported |",
        "| held | GPU 0: the driver tells which recovery it asks for | action 0 |",
        "| cannot be told here | nvidia-smi says the same of uuid, index, name and total | it is not installed |",
        "| held | what both may hold never exceeds what is shared | at most ",
        "| held | a process that takes more than it may hold is seen |",
    ):
        assert point in block
    assert "| posters is at its full size | 9420 MiB |" in block


def test_a_process_says_when_memory_is_not_there(machine: Machine) -> None:
    environment = {**machine.environment, cuda_stub.LIMIT: str(8 * GIB)}
    done = subprocess.run(
        [sys.executable, "-m", "hack.gpu_check.holder"],
        env=environment,
        input=f"hold {7 * GIB}\nhold {GIB}\nhold {9 * GIB}\n",
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )

    assert done.stdout.splitlines() == [
        "ready",
        f"holds {7 * GIB}",
        f"holds {GIB}",
        "failed cuMemAlloc_v2: out of memory",
    ]


def test_without_a_gpu_it_says_so_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / nvml_stub.SONAME).touch()
    done = gpu_check({**os.environ, "LD_LIBRARY_PATH": str(tmp_path)})

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "gpu-check needs a machine with an NVIDIA GPU and its driver. "
        "NVML does not answer: NVML Shared Library Not Found.\n"
    )
