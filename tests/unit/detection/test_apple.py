"""What system_profiler writes: displays of timmo001/system-bridge#3408 and exelban/stats#394, memory as "18 GB"."""

import json

import pytest

from arbiter.detection.answers import Answer
from arbiter.detection.apple import by_system_profiler
from arbiter.detection.command import asking
from arbiter.detection.info import GpuInfo, GpuVendor
from arbiter.units import GIB
from tests.unit.detection.conftest import Machine

M3 = {
    "_name": "Apple M3 Pro",
    "spdisplays_mtlgpufamilysupport": "spdisplays_metal3",
    "spdisplays_ndrvs": [{"_name": "Color LCD", "spdisplays_main": "spdisplays_yes"}],
    "spdisplays_vendor": "sppci_vendor_Apple",
    "sppci_bus": "spdisplays_builtin",
    "sppci_cores": "18",
    "sppci_device_type": "spdisplays_gpu",
    "sppci_model": "Apple M3 Pro",
}
RADEON = {
    "_name": "kHW_AMDRadeonProVega64Item",
    "spdisplays_vendor": "sppci_vendor_amd",
    "spdisplays_vram": "16 GB",
    "sppci_model": "Radeon Pro Vega 64",
}
HARDWARE = {"_name": "hardware_overview", "chip_type": "Apple M3 Pro", "physical_memory": "18 GB"}

OUTPUTS: dict[str, tuple[dict[str, object], Answer]] = {
    "three quarters of the memory": (
        {"SPDisplaysDataType": [M3], "SPHardwareDataType": [HARDWARE]},
        Answer((GpuInfo(device_id=0, vendor=GpuVendor.APPLE, name="Apple M3 Pro", vram_total=27 * GIB // 2),)),
    ),
    "another vendor's card does not share it": (
        {"SPDisplaysDataType": [RADEON], "SPHardwareDataType": [HARDWARE]},
        Answer(()),
    ),
    "a machine without display": ({"SPDisplaysDataType": [], "SPHardwareDataType": [HARDWARE]}, Answer(())),
    "no memory told": (
        {"SPDisplaysDataType": [M3]},
        Answer((), ("GPU 0 (Apple M3 Pro) does not tell how much memory it has.",)),
    ),
    "memory told in other words": (
        {"SPDisplaysDataType": [M3], "SPHardwareDataType": [{"physical_memory": "plenty"}]},
        Answer((), ("GPU 0 (Apple M3 Pro) does not tell how much memory it has.",)),
    ),
}


@pytest.mark.parametrize(("output", "found"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_system_profiler(output: dict[str, object], found: Answer, machine: Machine) -> None:
    machine.tool("system_profiler", {"-json SPDisplaysDataType SPHardwareDataType": json.dumps(output, indent=2)})
    assert by_system_profiler(asking(timeout=30)) == found
