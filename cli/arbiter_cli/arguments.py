"""Arguments that several commands take. Imports the standard library only."""

import argparse
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

_Choice = TypeVar("_Choice", bound=StrEnum)


class Output(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"


def add_output(parser: argparse.ArgumentParser) -> None:
    """`-o`: a table for people (the default) or JSON."""
    parser.add_argument(
        "-o",
        "--output",
        type=one_of(Output),
        default=Output.TABLE,
        metavar="FORMAT",
        help="table or json",
    )


def one_of(choices: type[_Choice]) -> Callable[[str], _Choice]:
    """The type of an argument that is one of these words; any other word is answered with all of them."""

    def choice(text: str) -> _Choice:
        try:
            return choices(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f'"{text}" is unknown; write one of {", ".join(choices)}') from error

    return choice
