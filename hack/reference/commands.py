"""The commands and their arguments, from their parsers. Imports the CLI."""

import argparse
import os
from collections.abc import Iterator
from unittest import mock

from arbiter_cli.main import COMMANDS, build_parser
from hack.reference.tables import code, table

_INTRODUCTION = """# Commands

`arbiter COMMAND --help` prints the same. Exit codes: 0 done, 1 the answer is no, 2 bad usage or input.
Flags of the three processes have an environment variable each, which stands in brackets: what the flag says wins.
"""


def page() -> str:
    """The page."""
    # A flag's default is what the environment says; the page tells the one that everybody has.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARBITER_")}
    with mock.patch.dict(os.environ, kept, clear=True):
        return "\n".join([_INTRODUCTION, *map(_command, COMMANDS)])


def _command(name: str) -> str:
    parser = next(
        subparsers.choices[name]
        for subparsers in build_parser(chosen=name)._actions
        if isinstance(subparsers, argparse._SubParsersAction)
    )
    rows = list(_rows(parser))
    listed = table(("argument", "values", "meaning"), rows) if rows else ""
    return f"## arbiter {name}\n\n{parser.description}\n\n{listed}"


def _rows(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        name = ", ".join(map(code, action.option_strings)) or code(str(action.metavar or action.dest))
        values = ", ".join(map(code, action.choices)) if action.choices else ""
        yield name, values or _placeholder(action), (action.help or "") % {**vars(action), "prog": parser.prog}


def _placeholder(action: argparse.Action) -> str:
    if action.nargs == 0 or not action.option_strings:
        return ""
    return code(action.metavar if isinstance(action.metavar, str) else action.dest.upper())
