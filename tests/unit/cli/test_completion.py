"""Completion as shells and kubectl ask for it, and the plugin's name."""

import subprocess
import sys
from pathlib import Path

import pytest

from arbiter_cli.main import main

PROGRAMS = Path(sys.executable).parent


def offered(*words: str) -> list[str]:
    """What kubectl is told of the words after `kubectl arbiter`."""
    done = subprocess.run(
        [PROGRAMS / "kubectl_complete-arbiter", *words], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "candidates"),
    [
        (("ex",), ["extender", "explain", ":4"]),
        (("top", "--sort", "pr"), ["price", ":4"]),
        (("explain", "dep"), ["deploy/", "deployment/", "deployments/", ":6"]),
    ],
)
def test_kubectl_is_told_what_may_follow(words: tuple[str, ...], candidates: list[str]) -> None:
    assert offered(*words) == candidates


def test_bash_completes_by_the_script() -> None:
    script = (
        'eval "$(arbiter completion bash)"; COMP_LINE="arbiter plan --mode B"; COMP_POINT=${#COMP_LINE}; '
        "COMP_WORDS=(arbiter plan --mode B); COMP_CWORD=3; COMP_TYPE=9; _python_argcomplete arbiter; "
        'printf "<%s>" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": f"{PROGRAMS}:/usr/bin:/bin"},
    )
    assert done.stdout == "<Balanced >"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "kubectl-arbiter" in capsys.readouterr().out


def test_the_plugin_speaks_of_itself_as_people_called_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(PROGRAMS / "kubectl-arbiter")])
    assert main(["explain", "pod"]) == 2
    assert capsys.readouterr().err == 'kubectl arbiter explain: "pod" names no pod; write for example pod/chat.\n'


def test_the_programs_that_kubectl_looks_for_are_installed() -> None:
    assert (PROGRAMS / "kubectl-arbiter").exists()
    assert (PROGRAMS / "kubectl_complete-arbiter").exists()
