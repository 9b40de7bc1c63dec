"""Apple's GPUs by system_profiler. Imports the standard library only.

They share the machine's memory. Three quarters of it count as theirs: the rest is for the system and the processes.
"""

import re

from arbiter.detection.answers import Answer, answer, fields, json_in, objects, words
from arbiter.detection.command import Ask
from arbiter.detection.info import GpuInfo, GpuVendor
from arbiter.units import GIB

_SHARE_PERCENT = 75


def by_system_profiler(ask: Ask) -> Answer:
    """Apple's GPU of this machine; other vendors' in a Mac are not its memory's.

    Raises:
        ToolError: it does not answer.
    """
    told = fields(json_in(ask(["system_profiler", "-json", "SPDisplaysDataType", "SPHardwareDataType"])))
    memory = next((_size(machine.get("physical_memory")) for machine in objects(told.get("SPHardwareDataType"))), None)
    displays = objects(told.get("SPDisplaysDataType"))
    ours = [display for display in displays if display.get("spdisplays_vendor") == "sppci_vendor_Apple"]
    return answer(_gpu(index, words(one.get("sppci_model")), memory) for index, one in enumerate(ours))


def _size(told: object) -> int | None:
    """Bytes of "16 GB", by which Apple means GiB."""
    match = re.fullmatch(r"(\d+) GB", told) if isinstance(told, str) else None
    return int(match[1]) * GIB if match else None


def _gpu(index: int, name: str | None, memory: int | None) -> GpuInfo | str:
    if not memory:
        return f"GPU {index} ({name or 'Apple GPU'}) does not tell how much memory it has."
    return GpuInfo(
        device_id=index,
        vendor=GpuVendor.APPLE,
        name=name or "Apple GPU",
        vram_total=memory * _SHARE_PERCENT // 100,
    )
