"""A stub of CUDA's driver library: processes that load it have as much memory of a GPU as a file of theirs says."""

import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "cuda.c"
SONAME = "libcuda.so.1"
VARIABLE = "CUDA_STUB"
LIMIT = "CUDA_STUB_FREE"


def build(directory: Path) -> Path:
    """Compiles the library into `directory`; returns its file."""
    library = directory / SONAME
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{SONAME}"]
    subprocess.run([*command, "-o", str(library), str(SOURCE)], check=True)
    return library


def held(directory: Path) -> dict[int, int]:
    """The bytes of each process that still lives."""
    return {
        int(file.name): int(file.read_text())
        for file in directory.iterdir()
        if file.name.isdigit() and Path("/proc", file.name).exists()
    }
