"""A stub of NVIDIA's library for machines without a GPU: compiled once for a test run, loaded by the real pynvml.

`nvml.c` says what its script looks like; whoever writes the script plays the driver.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parent / "nvml.c"
SONAME = "libnvidia-ml.so.1"
VARIABLE = "NVML_STUB"

NOT_SUPPORTED = 3
DRIVER_NOT_LOADED = 9
FUNCTION_NOT_FOUND = 13
LOST = 15
VERSION_MISMATCH = 18
UNKNOWN = 999

XID, DOUBLE_BIT_ECC = 8, 2
"""Types of events."""

CANNOT_TELL = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StubProcess:
    """A process on a GPU; `kind` is the list that it appears in."""

    pid: int
    used: int
    kind: str = "compute"


@dataclass(frozen=True, slots=True, kw_only=True)
class StubGpu:
    """One GPU of the stub; sizes in bytes, `action` the recovery that the driver asks for."""

    uuid: str
    total: int
    reserved: int = 0
    used: int = 0
    name: str = "Stub"
    minor: int = 0
    mig: bool = False
    action: int = CANNOT_TELL
    processes: Sequence[StubProcess] = ()

    @property
    def lines(self) -> list[str]:
        sizes = f"{self.total} {self.reserved} {self.used}"
        return [
            f"gpu {self.uuid} {self.name} {sizes} {self.minor} {int(self.mig)} {self.action}",
            *(f"process {self.uuid} {process.kind} {process.pid} {process.used}" for process in self.processes),
        ]


@dataclass(slots=True)
class NvmlStub:
    """The library, and the script that says what it answers."""

    library: Path
    script: Path
    _events: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to load the stub."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.library.parent), VARIABLE: str(self.script)}

    def write(self, *gpus: StubGpu, rules: Sequence[str] = ()) -> None:
        """`rules` are further statements of the script, as ``hang nvmlDeviceGetCount_v2``."""
        lines = [*rules, *(line for gpu in gpus for line in gpu.lines), *self._events]
        temporary = self.script.with_suffix(".new")
        temporary.write_text("\n".join(lines) + "\n")
        temporary.replace(self.script)

    def happen(self, uuid: str, kind: int, data: int) -> None:
        """An event; what was written last stays as it is."""
        event = f"event {uuid} {kind} {data}\n"
        self._events.append(event.strip())
        temporary = self.script.with_suffix(".new")
        temporary.write_text(self.script.read_text() + event)
        temporary.replace(self.script)

    @property
    def limits(self) -> list[str]:
        """The limits that were set, each ``UUID CGROUP SOFT HARD``, in order."""
        path = self.script.with_name(f"{self.script.name}.limits")
        return path.read_text().splitlines() if path.exists() else []


def build(directory: Path) -> Path:
    """Compiles the library into `directory`; returns its file."""
    library = directory / SONAME
    command = ["cc", "-shared", "-fPIC", "-O1", "-pthread", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{SONAME}"]
    subprocess.run([*command, "-o", str(library), str(SOURCE)], check=True)
    return library
