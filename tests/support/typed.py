"""A page whose commands are run as somebody types them who follows it: one shell, from the first block to the last.

Blocks marked `sh` are commands; a block marked `text` right after one is what they print. Names that Kubernetes makes
up, and times, are others each time, and the widths of columns go with them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.snippets import sections

_NEXT = "---- next ----"
_RANDOM = re.compile(r"(-[0-9a-f]{8,10})?-[bcdfghjklmnpqrstvwxz2456789]{5}\b")
_TIME = re.compile(r"\b(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d+)?m?s)?(?<=[dhms])\b")


@dataclass(frozen=True)
class Step:
    """One block of commands and what the page says that they print; `line` is that of the page."""

    commands: str
    output: str
    line: int


def steps(page: Path) -> list[Step]:
    """Every block of commands, in order."""
    blocks = (block for section in sections(page) for block in section.blocks)
    return [Step(block.text, block.output, block.line) for block in blocks if block.mark == "sh"]


def script(page: Sequence[Step]) -> str:
    """All of them for one bash, which ends at the first that fails."""
    return "set -eu -o pipefail\n" + "".join(f"{step.commands}echo '{_NEXT}'\n" for step in page)


def printed(output: str) -> list[str]:
    """What each step of the script printed; of the last one that began also where it failed."""
    return output.split(f"{_NEXT}\n")


def missing(expected: str, said: str) -> list[str]:
    """The lines of the page that were not printed in this order."""
    lines = iter([_same(line) for line in said.splitlines()])
    return [line for line in expected.splitlines() if _same(line) not in lines]


def _same(line: str) -> str:
    return " ".join(_TIME.sub("TIME", _RANDOM.sub("-RANDOM", line)).split())
