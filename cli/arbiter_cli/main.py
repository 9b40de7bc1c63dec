"""The `arbiter` command: one name for every process and question. Imports a command's module only when it is chosen.

A command's module has `add_arguments(parser)` and `run(arguments) -> int`, the exit code: 0 done, 1 the answer is no,
2 bad usage or input, with one line on stderr.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from arbiter_cli.errors import InputError


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command is, and its line in the help."""

    module: str
    help: str


COMMANDS = {
    "operator": Command("arbiter_operator.main", "decide quality targets and admit pods"),
    "extender": Command("arbiter_extender.main", "choose nodes and GPUs for kube-scheduler"),
    "device-plugin": Command("arbiter_deviceplugin.main", "offer a node's GPUs and carry targets out there"),
    "crds": Command("arbiter_cli.crds", "print the custom resource definitions"),
    "detect": Command("arbiter_cli.detect", "show this machine's GPUs"),
    "top": Command("arbiter_cli.top.command", "show who has what of every GPU, live"),
    "explain": Command("arbiter_cli.explain.command", "say why a pod has its quality, and what would change it"),
    "doctor": Command("arbiter_cli.doctor.command", "check an installation, and say what mends it"),
    "completion": Command("arbiter_cli.completion", "print what a shell needs to complete these words"),
    "plan": Command("arbiter_cli.plan", "show what manifests would get, without a cluster"),
    "simulate": Command("arbiter_cli.simulate", "show how well placements pack the pods of a trace"),
}


_INTERRUPTED = 130
"""As shells have it: 128, and the number of SIGINT."""


class _Parser(argparse.ArgumentParser):
    """Answers bad usage with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that `argv` (default: the process's) names, and returns its exit code."""
    if "_ARGCOMPLETE" in os.environ:
        from arbiter_cli.completion import complete  # noqa: PLC0415 - only a shell that completes needs it

        complete(lambda chosen: build_parser(chosen=chosen))
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(arguments: list[str]) -> int:
    parsed = build_parser(chosen=next((word for word in arguments if not word.startswith("-")), None)).parse_args(
        arguments
    )
    try:
        code: int = parsed.run(parsed)
    except InputError as error:
        # What people wrote is quoted in the sentence, and may hold line breaks.
        print(f"{_called()} {parsed.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return code


def _called() -> str:
    """As people called us: `kubectl arbiter` runs a program of the name kubectl-arbiter."""
    return "kubectl arbiter" if Path(sys.argv[0]).name == "kubectl-arbiter" else "arbiter"


def build_parser(*, chosen: str | None) -> argparse.ArgumentParser:
    """The parser of everything, with the arguments of the chosen command alone."""
    parser = _Parser(prog=_called(), description="Shares GPU memory between workloads that can run at reduced quality.")
    parser.add_argument("--version", action="version", version=f"arbiter {version('arbiter')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}."
        )
        if name == chosen:
            module = importlib.import_module(command.module)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser
