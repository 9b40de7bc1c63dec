"""What amd-smi and rocm-smi write.

amd-smi: nathaninline/ajean#39 (ROCm 7, the list wrapped), ROCm/rocprofiler-compute#836 (the list alone), the figures of
`metric --mem-usage` from amdsmi_cli of ROCm 6 (`{"value", "unit"}`) and 5.7 (bare numbers), where MB are 2**20 bytes.
rocm-smi: marimo-team/marimo#9237, mudler/LocalAI#7761 (two cards, one of them in the processor).
"""

import json
from dataclasses import replace

import pytest

from arbiter.detection.amd import by_amd_smi, by_rocm_smi
from arbiter.detection.answers import Answer
from arbiter.detection.command import ToolError, asking
from arbiter.detection.info import GpuInfo, GpuVendor
from arbiter.units import MIB
from tests.unit.detection.conftest import Machine

METRIC, STATIC = "metric --mem-usage --json", "static --asic --driver --json"


def mb(amount: int) -> dict[str, object]:
    return {"value": amount, "unit": "MB"}


def metric(index: int, total: object, free: object) -> dict[str, object]:
    return {"gpu": index, "mem_usage": {"total_vram": total, "used_vram": "N/A", "free_vram": free}}


def static(index: int, name: str, version: str) -> dict[str, object]:
    return {
        "gpu": index,
        "asic": {"market_name": name, "vendor_id": "0x1002", "target_graphics_version": version},
        "driver": {"name": "amdgpu", "version": "6.12.12"},
    }


def gpu(index: int, name: str, version: str | None, *, total: int, free: int | None) -> GpuInfo:
    return GpuInfo(
        device_id=index,
        vendor=GpuVendor.AMD,
        name=name,
        vram_total=total * MIB,
        vram_free=free if free is None else free * MIB,
        compute_capability=version,
        driver_version="6.12.12",
    )


RX_7800 = gpu(0, "AMD Radeon RX 7800 XT", "gfx1101", total=16368, free=15500)
STATIC_7800 = static(0, "AMD Radeon RX 7800 XT", "gfx1101")
MI300 = gpu(1, "AMD Instinct MI300X", "gfx942", total=196592, free=196309)

AMD_SMI = {
    "one card, the list wrapped": (
        {"gpu_data": [metric(0, mb(16368), mb(15500))]},
        {"gpu_data": [STATIC_7800]},
        Answer((RX_7800,)),
    ),
    "two cards, the list alone": (
        [metric(0, mb(16368), mb(15500)), metric(1, mb(196592), mb(196309))],
        [STATIC_7800, static(1, "AMD Instinct MI300X", "gfx942")],
        Answer((RX_7800, MI300)),
    ),
    "bare numbers": ([metric(0, 16368, 15500)], [STATIC_7800], Answer((RX_7800,))),
    "nothing free can be told": (
        [metric(0, mb(16368), "N/A")],
        [STATIC_7800],
        Answer((gpu(0, "AMD Radeon RX 7800 XT", "gfx1101", total=16368, free=None),)),
    ),
    "no size can be told": (
        [metric(0, mb(16368), mb(15500)), metric(1, "N/A", "N/A")],
        [STATIC_7800],
        Answer((RX_7800,), ("GPU 1 (Unknown GPU) does not tell how much memory it has.",)),
    ),
    "a size in a unit that nobody knows": (
        [metric(0, {"value": 16, "unit": "bananas"}, mb(1))],
        [STATIC_7800],
        Answer((), ("GPU 0 (AMD Radeon RX 7800 XT) does not tell how much memory it has.",)),
    ),
    "no card": ({"gpu_data": []}, {"gpu_data": []}, Answer(())),
    "anything but a list": ({"gpu_data": "none"}, {"gpu_data": 7}, Answer(())),
}


@pytest.mark.parametrize(("metrics", "statics", "found"), AMD_SMI.values(), ids=AMD_SMI.keys())
def test_amd_smi(metrics: object, statics: object, found: Answer, machine: Machine) -> None:
    machine.tool("amd-smi", {METRIC: json.dumps(metrics, indent=4), STATIC: json.dumps(statics, indent=4)})
    assert by_amd_smi(asking(timeout=30)) == found


def test_cards_whose_names_amd_smi_cannot_tell_are_counted_all_the_same(machine: Machine) -> None:
    machine.tool("amd-smi", {METRIC: json.dumps([metric(0, mb(16368), mb(15500))])})
    unnamed = replace(RX_7800, name="Unknown GPU", compute_capability=None, driver_version=None)
    problem = f"amd-smi static, which knows the names of the GPUs, failed with 64: unknown arguments: {STATIC}."
    assert by_amd_smi(asking(timeout=30)) == Answer((unnamed,), (problem,))


def test_warnings_on_stderr_are_no_part_of_the_answer(machine: Machine) -> None:
    machine.tool(
        "amd-smi",
        {METRIC: json.dumps([metric(0, mb(16368), mb(15500))]), STATIC: json.dumps([STATIC_7800])},
        stderr="amdsmi_interface.py:3569: SyntaxWarning: 'return' in a 'finally' block",
    )
    assert by_amd_smi(asking(timeout=30)) == Answer((RX_7800,))


def card(total: str, used: str, **product: str) -> dict[str, str]:
    return {"VRAM Total Memory (B)": total, "VRAM Total Used Memory (B)": used, **product}


NAVI = card("17163091968", "692142080", **{"Card Series": "Navi 21 [Radeon RX 6800]", "GFX Version": "gfx1030"})
RAPHAEL = card("67108864", "26079232", **{"Card Series": "Raphael", "GFX Version": "gfx1036"})
SYSTEM = {"Driver version": "6.12.12"}


def rocm(index: int, shown: dict[str, str], *, name: str | None = None, driver: str | None = "6.12.12") -> GpuInfo:
    total = int(shown["VRAM Total Memory (B)"])
    return GpuInfo(
        device_id=index,
        vendor=GpuVendor.AMD,
        name=name or shown["Card Series"],
        vram_total=total,
        vram_free=total - int(shown["VRAM Total Used Memory (B)"]),
        compute_capability=shown["GFX Version"],
        driver_version=driver,
    )


ROCM_SMI = {
    "every card": (
        json.dumps({"card0": NAVI, "card1": RAPHAEL, "system": SYSTEM}),
        Answer((rocm(0, NAVI), rocm(1, RAPHAEL))),
    ),
    "names in another case": (
        json.dumps({"card0": {name.replace("Series", "series"): value for name, value in NAVI.items()}}),
        Answer((rocm(0, NAVI, driver=None),)),
    ),
    "a series that it cannot tell": (
        json.dumps({"card0": {**NAVI, "Card Series": "N/A", "Card Model": "0x73bf"}, "system": SYSTEM}),
        Answer((rocm(0, NAVI, name="0x73bf"),)),
    ),
    "a warning before the JSON": (
        "\nWARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status\n\n"
        + json.dumps({"card0": NAVI, "system": SYSTEM}),
        Answer((rocm(0, NAVI),)),
    ),
    "a card without memory is told, not invented": (
        json.dumps({"card0": {"Card Series": "Navi 21"}, "card1": RAPHAEL, "system": SYSTEM}),
        Answer((rocm(1, RAPHAEL),), ("GPU 0 (Navi 21) does not tell how much memory it has.",)),
    ),
    "more in use than there is": (
        json.dumps({"card0": {**NAVI, "VRAM Total Used Memory (B)": "99999999999"}, "system": SYSTEM}),
        Answer((replace(rocm(0, NAVI), vram_free=0),)),
    ),
    "no card": (json.dumps({"system": SYSTEM}), Answer(())),
}


@pytest.mark.parametrize(("output", "found"), ROCM_SMI.values(), ids=ROCM_SMI.keys())
def test_rocm_smi(output: str, found: Answer, machine: Machine) -> None:
    machine.tool("rocm-smi", {"--showmeminfo vram --showproductname --showdriverversion --json": output})
    assert by_rocm_smi(asking(timeout=30)) == found


@pytest.mark.parametrize("output", ["", "WARNING: No JSON data to report\n", '{"card0": {"VRAM Total'])
def test_an_output_without_json_is_no_answer(output: str, machine: Machine) -> None:
    machine.tool("rocm-smi", {"--showmeminfo vram --showproductname --showdriverversion --json": output})
    with pytest.raises(ToolError, match=r"^answered no JSON$"):
        by_rocm_smi(asking(timeout=30))
