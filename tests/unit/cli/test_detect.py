"""What `arbiter detect` prints, from tools that a test puts on the PATH."""

import json
from pathlib import Path

import pytest

from arbiter_cli.main import main

NVIDIA_SMI = """#!/bin/sh
echo "0, NVIDIA H100 80GB HBM3, 81559, 81078, 550.54.15, 9.0"
echo "1, Quadro K600, 1024, [N/A], 470.256.02, [N/A]"
echo "2, NVIDIA GB10, [N/A], [N/A], 580.95.05, 12.1"
"""
PROBLEM = "GPU 2 (NVIDIA GB10) does not tell how much memory it has."


@pytest.fixture(autouse=True)
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(tools: Path, text: str) -> None:
    (tools / "nvidia-smi").write_text(text)
    (tools / "nvidia-smi").chmod(0o755)


def test_a_table_for_people_and_problems_beside_it(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(tools, NVIDIA_SMI)
    assert main(["detect", "--timeout", "60"]) == 0
    assert capsys.readouterr() == (
        "GPU  VENDOR  NAME                   VRAM     FREE     COMPUTE  DRIVER\n"
        "0    Nvidia  NVIDIA H100 80GB HBM3  79.65Gi  79.18Gi  9.0      550.54.15\n"
        "1    Nvidia  Quadro K600            1.00Gi   -        -        470.256.02\n"
        "Told by NvidiaSmi.\n",
        f"Warning: {PROBLEM}\n",
    )


def test_json_for_machines(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(tools, NVIDIA_SMI)
    assert main(["detect", "--timeout", "60", "-o", "json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "method": "NvidiaSmi",
        "gpus": [
            {
                "deviceId": 0,
                "vendor": "Nvidia",
                "name": "NVIDIA H100 80GB HBM3",
                "vramTotalBytes": 81559 << 20,
                "vramFreeBytes": 81078 << 20,
                "utilisation": pytest.approx(481 / 81559),
                "computeCapability": "9.0",
                "driverVersion": "550.54.15",
            },
            {
                "deviceId": 1,
                "vendor": "Nvidia",
                "name": "Quadro K600",
                "vramTotalBytes": 1 << 30,
                "vramFreeBytes": None,
                "utilisation": None,
                "computeCapability": None,
                "driverVersion": "470.256.02",
            },
        ],
        "problems": [PROBLEM],
    }


def test_no_gpu_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "--timeout", "60"]) == 1
    assert capsys.readouterr() == ("No GPU found.\n", "")
    assert main(["detect", "--timeout", "60", "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"method": "None", "gpus": [], "problems": []}


def test_a_tool_that_fails_is_named(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(tools, "#!/bin/sh\necho 'No devices were found' >&2\nexit 6\n")
    assert main(["detect", "--timeout", "60"]) == 1
    assert capsys.readouterr() == (
        "No GPU found.\n",
        "Warning: nvidia-smi failed with 6: No devices were found.\n",
    )


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_no_time(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["detect", f"--timeout={text}"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        f'arbiter detect: argument --timeout: "{text}" is no time; write seconds such as 5; see arbiter detect --help\n'
    )
