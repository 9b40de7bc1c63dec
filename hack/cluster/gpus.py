"""The simulated GPUs of a node: their sizes as people write them, and the file that the device plugin watches."""

import re
import uuid
from dataclasses import dataclass

import yaml

from hack.cluster.errors import SizeError

_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_NAMES = uuid.UUID("6f1f3f0e-6a0b-4a6e-9a53-5c4b0f3b8a11")  # an arbitrary name space: same node and index, same uuid


@dataclass(frozen=True)
class SimulatedGpu:
    """One GPU; `size` is usable memory in bytes and `label` how it was written."""

    size: int
    label: str


def parse(text: str) -> tuple[SimulatedGpu, ...]:
    """Reads `12Gi,24Gi`, the GPUs of every node; raises SizeError."""
    return tuple(SimulatedGpu(size=_bytes(label), label=label) for label in text.replace(" ", "").split(","))


def render(node: str, gpus: tuple[SimulatedGpu, ...]) -> str:
    """Returns the YAML file of one node: all memory usable and unused, every GPU healthy."""
    return yaml.safe_dump({"gpus": [_entry(node, index, gpu) for index, gpu in enumerate(gpus)]}, sort_keys=False)


def _entry(node: str, index: int, gpu: SimulatedGpu) -> dict[str, str | int | bool]:
    return {
        "uuid": f"GPU-{uuid.uuid5(_NAMES, f'{node}/{index}')}",
        "index": index,
        "name": f"SIM-{gpu.label.removesuffix('i')}",
        "total": gpu.size,
        "reserved": 0,
        "used": 0,
        "healthy": True,
    }


def _bytes(label: str) -> int:
    found = re.fullmatch(r"([0-9]+)(Ki|Mi|Gi|Ti)?", label)
    if found is None or int(found[1]) == 0:
        raise SizeError(f'GPU size "{label}" is no memory size; write whole numbers like 12Gi or 11520Mi, with commas.')
    return int(found[1]) * _UNITS[found[2] or ""]
