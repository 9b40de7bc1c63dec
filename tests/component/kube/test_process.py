"""How a process starts and ends, as real processes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE

SCRIPT = """
import argparse, asyncio, logging, sys
from arbiter_kube.client import KubeClient
from arbiter_kube.client.process import ConfigurationError, add_common_arguments, run_process

async def wait():
    try:
        logging.getLogger("test").info("started unit=%s bind=%s", arguments.vram_unit, arguments.health_bind)
        await asyncio.sleep(60)
    finally:
        logging.getLogger("test").info("ended")

async def refuse():
    raise ConfigurationError("--vram-unit 3Gi is not what this node uses; write 1Gi.")

async def connect():
    async with await KubeClient.connect(arguments.kubeconfig, component="test"):
        pass

async def fail():
    raise RuntimeError("boom")

parser = argparse.ArgumentParser(prog="arbiter test")
parser.add_argument("what")
add_common_arguments(parser)
arguments = parser.parse_args()
sys.exit(run_process(globals()[arguments.what](), log_level=arguments.log_level))
"""


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments], stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(number: signal.Signals) -> None:
    with start("wait", ARBITER_VRAM_UNIT="256Mi") as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first.startswith("time=2")
        assert first.endswith("Z level=INFO logger=test started unit=268435456 bind=0.0.0.0:8080\n")
        process.send_signal(number)
        _, rest = process.communicate(timeout=PATIENCE)
    assert rest.endswith("level=INFO logger=test ended\n")
    assert process.returncode == 0


def test_bad_configuration_is_one_sentence_and_exit_code_2() -> None:
    with start("refuse") as process:
        _, text = process.communicate(timeout=PATIENCE)
    assert (process.returncode, text) == (2, "--vram-unit 3Gi is not what this node uses; write 1Gi.\n")


def test_an_unusable_kubeconfig_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    with start("connect", f"--kubeconfig={tmp_path / 'kubeconfig'}") as process:
        _, text = process.communicate(timeout=PATIENCE)
    reason = "Invalid kube-config file. No configuration found."
    assert (process.returncode, text) == (2, f"{tmp_path}/kubeconfig cannot be used as a kubeconfig file: {reason}\n")


def test_an_error_that_nobody_expected_keeps_its_traceback() -> None:
    with start("fail") as process:
        _, text = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert text.endswith("RuntimeError: boom\n")


def test_a_flag_outweighs_its_environment_variable() -> None:
    with start("wait", "--vram-unit=2Gi", ARBITER_VRAM_UNIT="256Mi") as process:
        assert process.stderr is not None
        assert "unit=2147483648" in process.stderr.readline()
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_a_bad_value_in_the_environment_says_what_to_write() -> None:
    with start("wait", ARBITER_VRAM_UNIT="1Q") as process:
        _, text = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert text.endswith('--vram-unit: "1Q" is no size; write a number with a unit, such as 10Gi or 1843Mi.\n')
