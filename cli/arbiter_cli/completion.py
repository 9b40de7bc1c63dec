"""`arbiter completion`: what a shell needs to complete our words, and the words themselves.

argcomplete asks the commands' own parsers, so that nothing is listed twice; `kubectl arbiter ...` is completed by a
program that kubectl calls (kubectl_complete-arbiter).
"""

import argparse
import io
import os
import shlex
import sys
from collections.abc import Callable
from typing import TextIO

import argcomplete
from argcomplete.shell_integration import shellcode

_PROGRAMS = ("arbiter", "kubectl-arbiter")

_SHELLS = ("bash", "zsh", "fish")

_NO_FILES, _NO_SPACE = 4, 2
"""kubectl's words for: these are all, do not offer files as well; and: more follows without a blank (cobra's)."""

_HOW = """
Load it at every start of the shell:
  bash   arbiter completion bash > ~/.local/share/bash-completion/completions/arbiter
  zsh    arbiter completion zsh > ~/.zfunc/_arbiter      (with ~/.zfunc in fpath, before compinit)
  fish   arbiter completion fish > ~/.config/fish/completions/arbiter.fish
`kubectl arbiter ...` is completed by kubectl's own completion.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `arbiter completion` takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _HOW
    parser.add_argument("shell", choices=_SHELLS, help="the shell to complete in")


def run(arguments: argparse.Namespace) -> int:
    """Prints the script."""
    print(shellcode(_PROGRAMS, shell=arguments.shell))
    return 0


Leave = Callable[[int], object]


def complete(
    parser: Callable[[str | None], argparse.ArgumentParser], *, to: TextIO | None = None, leave: Leave = os._exit
) -> None:
    """Answers a shell that asks by its environment, as argcomplete reads it; `parser` is that of a command."""
    words = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split()[1:]
    chosen = next((word for word in words if not word.startswith("-")), None)
    argcomplete.autocomplete(
        parser(chosen),
        output_stream=to,
        exit_method=leave,
        append_space=False if to else None,
    )


def for_kubectl() -> int:
    """What kubectl calls with the words after `kubectl arbiter`, the last of them begun: a candidate in each line."""
    from arbiter_cli.main import build_parser  # noqa: PLC0415 - which imports this module where it is asked for

    line = f"{_PROGRAMS[0]} {' '.join(map(shlex.quote, sys.argv[1:-1]))} {sys.argv[-1]}"
    os.environ |= {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    found = io.StringIO()
    complete(lambda chosen: build_parser(chosen=chosen), to=found, leave=lambda code: code)
    candidates = [*filter(None, map(str.strip, found.getvalue().splitlines()))]
    begun = bool(candidates) and all(candidate.endswith("/") for candidate in candidates)
    print("\n".join([*candidates, f":{_NO_FILES | _NO_SPACE if begun else _NO_FILES}"]))
    return 0
