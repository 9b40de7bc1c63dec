"""The command's front: help, bad usage, and what is imported when."""

import importlib.util
import subprocess
import sys

import pytest

from arbiter_cli.main import COMMANDS, Command, main


def test_help_lists_every_command_without_importing_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown and command.help in shown for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: arbiter {name} ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "arbiter: the following arguments are required: COMMAND; see arbiter --help"),
        (["plan"], "arbiter plan: the following arguments are required: -f/--filename; see arbiter plan --help"),
        (
            ["plan", "-f", "x", "--gpu", "12Gi,ten"],
            'arbiter plan: argument --gpu: "ten" is no size; write a number with a unit, such as 10Gi or 1843Mi; '
            "see arbiter plan --help",
        ),
        (
            ["plan", "-f", "x", "--gpu", "0"],
            'arbiter plan: argument --gpu: "0" is no memory; write a size such as 12Gi; see arbiter plan --help',
        ),
        (
            ["plan", "-f", "x", "--mode", "Generous"],
            'arbiter plan: argument --mode: "Generous" is unknown; '
            "write one of Adaptive, LlmFirst, DiffusionFirst, Balanced, Fixed; see arbiter plan --help",
        ),
        (
            ["plan", "-f", "x", "-o", "yaml"],
            'arbiter plan: argument -o/--output: "yaml" is unknown; write one of table, json; see arbiter plan --help',
        ),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr() == ("", line + "\n")


def test_an_unknown_command_names_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["paln"])
    assert end.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "plan" in line


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_every_command_has_its_module(command: Command) -> None:
    assert importlib.util.find_spec(command.module) is not None


def test_a_plan_needs_no_process_of_the_cluster() -> None:
    script = (
        "import sys; from arbiter_cli.main import main\n"
        "assert main(['plan', '-f', 'examples/chat.yaml']) == 0\n"
        "print(sorted({'kopf', 'grpc', 'aiohttp', 'kubernetes', 'pynvml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
