"""Apple's GPUs by system_profiler. Imports the standard library only.

They share the machine's memory. Three quarters of it count as theirs: the rest is for the system and the processes.
"""

import re

from arbiter.detection.answers import Answer, answer, fields, gpu_or_problem, json_in, objects, words
from arbiter.detection.command import Ask
from arbiter.detection.info import GpuVendor
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
    return answer(
        gpu_or_problem(
            GpuVendor.APPLE,
            index=index,
            name=words(display.get("sppci_model")),
            total=memory and memory * _SHARE_PERCENT // 100,
        )
        for index, display in enumerate(ours)
    )


def _size(told: object) -> int | None:
    """Bytes of "16 GB", by which Apple means GiB."""
    match = re.fullmatch(r"(\d{1,9}) GB", told) if isinstance(told, str) else None
    return int(match[1]) * GIB if match else None
