"""Arguments that several commands take. Imports the standard library only."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import TypeVar

_Choice = TypeVar("_Choice", bound=StrEnum)


class Output(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    WIDE = "wide"
    NAME = "name"


FILES = (Output.TABLE, Output.JSON)
"""Of commands about files and machines."""

OBJECTS = (Output.TABLE, Output.JSON, Output.YAML)
"""Of commands about a cluster, as people know them from kubectl."""

LISTS = (*OBJECTS, Output.WIDE, Output.NAME)
"""Of those that list."""


Candidates = Callable[..., Iterable[str]]
"""What a shell may complete; argcomplete calls it by keywords: prefix, action, parser, parsed_args."""


def completed(action: argparse.Action, candidates: Candidates) -> None:
    """Has shells complete an argument by these words."""
    action.completer = candidates  # type: ignore[attr-defined] # argcomplete looks for it


def words(choices: Iterable[str]) -> Candidates:
    """Always the same candidates."""
    return lambda **_: map(str, choices)


def add_output(parser: argparse.ArgumentParser, choices: Sequence[Output] = FILES) -> None:
    """`-o`: a table for people (the default), or one of the other `choices`."""
    output = parser.add_argument(
        "-o",
        "--output",
        type=one_of(choices),
        default=Output.TABLE,
        metavar="FORMAT",
        help=f"{', '.join(choices[:-1])} or {choices[-1]}",
    )
    completed(output, words(choices))


def one_of(choices: Iterable[_Choice]) -> Callable[[str], _Choice]:
    """The type of an argument that is one of these words; any other word is answered with all of them."""
    known = {str(choice): choice for choice in choices}

    def choice(text: str) -> _Choice:
        if text not in known:
            raise argparse.ArgumentTypeError(f'"{text}" is unknown; write one of {", ".join(known)}')
        return known[text]

    return choice
