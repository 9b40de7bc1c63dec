"""A stub of NVIDIA's library for machines without a GPU: compiled once for a test run, loaded by the real pynvml."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent / "nvml.c"
SONAME = "libnvidia-ml.so.1"

LOST = 15
DRIVER_NOT_LOADED = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class StubGpu:
    """One GPU of the stub; sizes in bytes, `status` what every call about it returns."""

    uuid: str
    total: int
    reserved: int = 0
    used: int = 0
    name: str = "Stub"
    status: int = 0

    @property
    def line(self) -> str:
        return f"{self.status} {self.uuid} {self.name} {self.total} {self.reserved} {self.used}"


@dataclass(frozen=True, slots=True)
class NvmlStub:
    """The library's folder, and the file that says what it answers."""

    library: Path
    state: Path

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to load the stub."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.library), "NVML_STUB": str(self.state)}

    def write(self, gpus: Sequence[StubGpu], *, init_status: int = 0, has_memory_v2: bool = True) -> None:
        """`init_status` below 0: nvmlInit hangs for so many seconds."""
        temporary = self.state.with_suffix(".new")
        temporary.write_text("\n".join([f"{init_status} {int(has_memory_v2)}", *(gpu.line for gpu in gpus)]) + "\n")
        temporary.replace(self.state)


def build(directory: Path) -> Path:
    """Compiles the library into `directory`."""
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{SONAME}"]
    subprocess.run([*command, "-o", str(directory / SONAME), str(SOURCE)], check=True)
    return directory
