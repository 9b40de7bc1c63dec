"""NVIDIA's GPUs: by NVML, in a child of its own, and by nvidia-smi. Imports the standard library only.

Fields of nvidia-smi: `nvidia-smi --help-query-gpu`. It writes memory in MiB, and what it cannot tell in brackets,
as ``[N/A]`` or ``[Not Supported]``; drivers before r510 do not know ``compute_cap``.
"""

import sys
from collections.abc import Iterator, Sequence

from arbiter.detection.answers import Answer, Fields, answer, fields, gpu_or_problem, json_in, objects, whole, words
from arbiter.detection.command import Ask, ToolError
from arbiter.detection.info import GpuInfo, GpuVendor
from arbiter.units import MIB

_FIELDS = ("index", "name", "memory.total", "memory.free", "driver_version", "compute_cap")


def by_nvml(ask: Ask) -> Answer:
    """What `arbiter.detection.nvml` prints.

    Raises:
        ToolError: NVML is there and does not answer.
    """
    told = fields(json_in(ask([sys.executable, "-P", "-m", "arbiter.detection.nvml"])))
    return answer(_from_nvml(gpu, driver=words(told.get("driver"))) for gpu in objects(told.get("gpus")))


def _from_nvml(gpu: Fields, *, driver: str | None) -> GpuInfo | str:
    if "error" in gpu:
        return f"NVML cannot read GPU {gpu.get('index')}: {gpu['error']}."
    return gpu_or_problem(
        GpuVendor.NVIDIA,
        index=whole(gpu.get("index")),
        name=words(gpu.get("name")),
        total=whole(gpu.get("total")),
        free=whole(gpu.get("free")),
        driver=driver,
        capability=words(gpu.get("capability")),
    )


def by_nvidia_smi(ask: Ask) -> Answer:
    """What nvidia-smi lists.

    Raises:
        ToolError: it does not answer.
    """
    try:
        return answer(_rows(_query(ask, _FIELDS)))
    except ToolError as error:
        if "compute_cap" not in str(error):
            raise
    return answer(_rows(_query(ask, _FIELDS[:-1])))


def _query(ask: Ask, names: Sequence[str]) -> str:
    return ask(["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"])


def _rows(output: str) -> Iterator[GpuInfo | str]:
    for line in output.splitlines():
        told = dict(zip(_FIELDS, map(str.strip, line.split(",")), strict=False))
        if len(told) < len(_FIELDS) - 1 or whole(told["index"]) is None:
            yield f'nvidia-smi wrote a line that is no GPU: "{line.strip()}".'
            continue
        total, free = whole(told["memory.total"]), whole(told["memory.free"])
        yield gpu_or_problem(
            GpuVendor.NVIDIA,
            index=whole(told["index"]),
            name=words(told["name"]),
            total=total and total * MIB,
            free=free if free is None else free * MIB,
            driver=words(told["driver_version"]),
            capability=words(told.get("compute_cap")),
        )
