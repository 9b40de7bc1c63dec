"""What is known of engines: the flags that carry a target, and how one sees that they are up.

Facts: vLLM takes `--gpu-memory-utilization` as a share of the whole device and refuses to start where less is free. It
counts CUDA graphs into it since 0.21, before that when VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS is set (vllm#30515).
`--max-model-len auto` cuts the context to what fits (vllm#29431). ComfyUI takes `--reserve-vram` as GiB for others.
PyTorch's memory fraction bounds its allocator, beside which each process has a CUDA context.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PLAIN", "TABLES", "Row", "Table", "recognise"]


@dataclass(frozen=True)
class Row:
    """An argument that a target means: `flag`, and the template of its value.

    `binding`: the engine would exceed its memory without it, so a command that has the flag already is refused. Other
    rows give way to what the command says.
    """

    flag: str
    value: str
    binding: bool = False
    others: tuple[str, ...] = ()
    """Other spellings of the flag."""


@dataclass(frozen=True)
class Table:
    """One kind of engine. `health` is the path that answers 200 once it is up, on the port of `--port`."""

    name: str
    rows: tuple[Row, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    choices: tuple[tuple[str, str], ...] = ()
    """Values that go by quality, as the command line's --choose writes them."""
    headroom: int = 0
    """Bytes per GPU that the engine takes beside what its flags say."""
    health: str | None = None
    port: int = 0


VLLM = Table(
    "vllm",
    rows=(
        Row("--gpu-memory-utilization", "{gpu_fraction}", binding=True),
        Row("--tensor-parallel-size", "{gpu_count}", others=("-tp",)),
        Row("--max-model-len", "auto"),
    ),
    environment=(("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS", "1"),),
    health="/health",
    port=8000,
)

COMFYUI = Table(
    "comfyui",
    rows=(Row("--reserve-vram", "{reserve_gib}", binding=True),),
    health="/system_stats",
    port=8188,
)

DIFFUSERS = Table(
    "diffusers",
    rows=(
        Row("--memory-fraction", "{gpu_fraction}", binding=True),
        Row("--offload", "{offload}"),
    ),
    choices=(("offload", "none:1,model:0.5,sequential:0"),),
    headroom=512 << 20,
)

PLAIN = Table("plain")

TABLES: dict[str, Table] = {table.name: table for table in (VLLM, COMFYUI, DIFFUSERS, PLAIN)}


def recognise(command: Sequence[str]) -> Table:
    """The table of an engine by its command; `PLAIN` where nothing tells."""
    if os.path.basename(command[0]) == "vllm" or any(word.startswith("vllm.entrypoints") for word in command):
        return VLLM
    scripts = [os.path.abspath(word) for word in command if os.path.basename(word) == "main.py"]
    if any(os.path.basename(os.path.dirname(script)).lower() == "comfyui" for script in scripts):
        return COMFYUI
    return PLAIN
