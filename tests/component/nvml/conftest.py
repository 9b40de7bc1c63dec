"""The nvml backend in this process: the real pynvml finds a stub of NVIDIA's library already loaded."""

import ctypes
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from arbiter_deviceplugin.backends.nvml import NvmlBackend
from tests.component.nvml.support import CONTAINER, POD, SA, SB, STATIC, Clock, Make
from tests.support.nvml_stub import VARIABLE, NvmlStub, build
from tests.support.patience import PATIENCE


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


@pytest.fixture
def clock() -> Clock:
    return Clock()


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
