"""What nvidia-smi writes, on good days and bad ones.

Lines as drivers 470 to 580 write them; "[N/A]" and the older "[Not Supported]" side by side in i3pystatus#776, the
missing field in huggingface/candle#733.
"""

import json

import pytest

from arbiter.detection.answers import Answer
from arbiter.detection.command import ToolError, asking
from arbiter.detection.info import GpuInfo, GpuVendor
from arbiter.detection.nvidia import by_nvidia_smi, by_nvml
from arbiter.units import MIB
from tests.unit.detection.conftest import Machine

FULL = "--query-gpu=index,name,memory.total,memory.free,driver_version,compute_cap --format=csv,noheader,nounits"
WITHOUT_CAPABILITY = FULL.replace(",compute_cap", "")


def gpu(index: int, name: str, *, total: int, free: int | None, driver: str | None, capability: str | None) -> GpuInfo:
    return GpuInfo(
        device_id=index,
        vendor=GpuVendor.NVIDIA,
        name=name,
        vram_total=total * MIB,
        vram_free=free if free is None else free * MIB,
        compute_capability=capability,
        driver_version=driver,
    )


H100 = gpu(0, "NVIDIA H100 80GB HBM3", total=81559, free=81078, driver="550.54.15", capability="9.0")
TESLA = gpu(1, "Tesla T4", total=15360, free=15098, driver="550.54.15", capability="7.5")
TWO_CARDS = """\
0, NVIDIA H100 80GB HBM3, 81559, 81078, 550.54.15, 9.0
1, Tesla T4, 15360, 15098, 550.54.15, 7.5
"""

OUTPUTS = {
    "two cards": (TWO_CARDS, Answer((H100, TESLA))),
    "no card": ("", Answer(())),
    "a card that shares the machine's memory has none of its own": (
        "0, NVIDIA GB10, [N/A], [N/A], 580.95.05, 12.1\n",
        Answer((), ("GPU 0 (NVIDIA GB10) does not tell how much memory it has.",)),
    ),
    "what cannot be told stays open": (
        "0, GeForce GTX 680, 4095, [Not Supported], 470.256.02, [N/A]\n",
        Answer((gpu(0, "GeForce GTX 680", total=4095, free=None, driver="470.256.02", capability=None),)),
    ),
    "one card is lost": (
        "0, NVIDIA H100 80GB HBM3, 81559, 81078, 550.54.15, 9.0\n"
        "1, [GPU is lost], [GPU is lost], [GPU is lost], 550.54.15, [GPU is lost]\n",
        Answer((H100,), ("GPU 1 (Unknown GPU) does not tell how much memory it has.",)),
    ),
    "a message in the place of a card": (
        "No devices were found\n",
        Answer((), ('nvidia-smi wrote a line that is no GPU: "No devices were found".',)),
    ),
    "a warning before the cards": (
        "WARNING: infoROM is corrupted at gpu 0000:01:00.0\n" + TWO_CARDS,
        Answer(
            (H100, TESLA),
            ('nvidia-smi wrote a line that is no GPU: "WARNING: infoROM is corrupted at gpu 0000:01:00.0".',),
        ),
    ),
    "an output that breaks off": (
        TWO_CARDS + "2, Tesla T4, 153",
        Answer((H100, TESLA), ('nvidia-smi wrote a line that is no GPU: "2, Tesla T4, 153".',)),
    ),
}


@pytest.mark.parametrize(("output", "found"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_nvidia_smi(output: str, found: Answer, machine: Machine) -> None:
    machine.tool("nvidia-smi", {FULL: output})
    assert by_nvidia_smi(asking(timeout=30)) == found


def test_a_driver_that_does_not_know_compute_capabilities_is_asked_without_them(machine: Machine) -> None:
    machine.script(
        "nvidia-smi",
        'case "$*" in *compute_cap*)\n'
        """echo 'Field "compute_cap" is not a valid field to query.'; exit 2;; esac\n"""
        "echo '0, Tesla K80, 11441, 11438, 470.182.03'",
    )
    known = gpu(0, "Tesla K80", total=11441, free=11438, driver="470.182.03", capability=None)
    assert by_nvidia_smi(asking(timeout=30)) == Answer((known,))


NVML = {
    "every GPU": (
        {
            "driver": "550.54.15",
            "gpus": [
                {"index": 0, "name": H100.name, "total": 81559 * MIB, "free": 81078 * MIB, "capability": "9.0"},
                {"index": 1, "name": None, "total": 15360 * MIB, "free": 15098 * MIB, "capability": None},
            ],
        },
        Answer((H100, gpu(1, "Unknown GPU", total=15360, free=15098, driver="550.54.15", capability=None))),
    ),
    "one that cannot be read": (
        {"driver": None, "gpus": [{"index": 3, "error": "GPU is lost"}]},
        Answer((), ("NVML cannot read GPU 3: GPU is lost.",)),
    ),
    "no driver": ({"driver": None, "gpus": []}, Answer(())),
}


@pytest.mark.parametrize(("told", "found"), NVML.values(), ids=NVML.keys())
def test_what_the_child_says_of_nvml(told: dict[str, object], found: Answer) -> None:
    assert by_nvml(lambda _: json.dumps(told)) == found


FAILURES = {
    "no driver": (
        9,
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
        "Make sure that the latest NVIDIA driver is installed and running.\n\n",
    ),
    "a driver of another version": (18, "Failed to initialize NVML: Driver/library version mismatch\n"),
}


@pytest.mark.parametrize(("code", "said"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_is_told_in_the_tools_words(code: int, said: str, machine: Machine) -> None:
    machine.tool("nvidia-smi", {FULL: said}, code=code)
    with pytest.raises(ToolError) as error:
        by_nvidia_smi(asking(timeout=30))
    assert str(error.value) == f"failed with {code}: {said.strip()}"
