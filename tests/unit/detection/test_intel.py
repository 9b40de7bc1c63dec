"""What xpu-smi writes: the list of version 1 (its user guide), all fields of one card (intel/xpumanager#127)."""

import json

import pytest

from arbiter.detection.answers import Answer
from arbiter.detection.command import ToolError, asking
from arbiter.detection.info import GpuInfo, GpuVendor
from arbiter.detection.intel import by_xpu_smi
from tests.unit.detection.conftest import Machine

LISTED = {
    "device_id": 0,
    "device_name": "Intel(R) Graphics [0xe211]",
    "device_type": "GPU",
    "pci_bdf_address": "0000:97:00.0",
    "pci_device_id": "0xe211",
    "uuid": "00000000-0000-0097-0000-0000e2118086",
    "vendor_name": "Intel(R) Corporation",
}
WHOLE = {
    **LISTED,
    "driver_version": "7B7A46009E666C4D10E1134",
    "memory_free_size_byte": "25447600128",
    "memory_physical_size_byte": "25669140480",
    "serial_number": "unknown",
}
GPU = GpuInfo(
    device_id=0,
    vendor=GpuVendor.INTEL,
    name="Intel(R) Graphics [0xe211]",
    vram_total=25669140480,
    vram_free=25447600128,
    driver_version="7B7A46009E666C4D10E1134",
)
INTEGRATED = {**LISTED, "device_id": 1, "device_name": "Intel(R) Iris(R) Xe Graphics", "memory_physical_size_byte": ""}
TELLS_NOTHING = "GPU 1 (Intel(R) Iris(R) Xe Graphics) does not tell how much memory it has."

LIST, ONE = "discovery -j", "discovery -d 0 -j"

OUTPUTS: dict[str, tuple[dict[str, object], Answer]] = {
    "memory is told of each card alone": ({LIST: {"device_list": [LISTED]}, ONE: WHOLE}, Answer((GPU,))),
    "alone, and in a list all the same": (
        {LIST: {"device_list": [LISTED]}, ONE: {"device_list": [WHOLE]}},
        Answer((GPU,)),
    ),
    "the list has everything": ({LIST: {"device_list": [WHOLE, INTEGRATED]}}, Answer((GPU,), (TELLS_NOTHING,))),
    "no card": ({LIST: {"device_list": []}}, Answer(())),
    "one card does not answer": (
        {
            LIST: {"device_list": [WHOLE, {**LISTED, "device_id": 1}]},
            "discovery -d 1 -j": {"error": "device not found"},
        },
        Answer((GPU,), ("xpu-smi cannot read GPU 1: it failed: device not found.",)),
    ),
    "nothing but a name": (
        {LIST: {"device_list": [LISTED]}, ONE: LISTED},
        Answer((), ("GPU 0 (Intel(R) Graphics [0xe211]) does not tell how much memory it has.",)),
    ),
}


@pytest.mark.parametrize(("outputs", "found"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_xpu_smi(outputs: dict[str, object], found: Answer, machine: Machine) -> None:
    machine.tool("xpu-smi", {arguments: json.dumps(told, indent=4) for arguments, told in outputs.items()})
    assert by_xpu_smi(asking(timeout=30)) == found


FAILURES = {
    "an error as its answer": ('{"error": "Level Zero Initialization Error", "errno": 6}', "Level Zero Initialization"),
    "an output that breaks off": ('{"device_list": [{"device_id": 0, ', "answered no JSON"),
}


@pytest.mark.parametrize(("output", "said"), FAILURES.values(), ids=FAILURES.keys())
def test_no_answer_from_xpu_smi(output: str, said: str, machine: Machine) -> None:
    machine.tool("xpu-smi", {LIST: output})
    with pytest.raises(ToolError, match=said):
        by_xpu_smi(asking(timeout=30))
