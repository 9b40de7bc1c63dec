"""The examples of a page in Markdown, run in their order as a reader would, their output held against the page's.

What runs are fenced blocks marked `python`; a block marked `text` right after one is what it prints. What one block
defines the later ones of its section (down to the next `##`) have too. Blocks marked `console` are commands after `$`
with what they print, run from the root of the repository. Blocks with any other mark are for reading only.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r'^```(?P<mark>\w*)(?: title="(?P<title>[^"\n]*)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (?P<command>.*)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its first line, counted from 1, `title` the file that it shows."""

    mark: str
    text: str
    line: int
    output: str = ""
    title: str = ""


@dataclass(frozen=True)
class Section:
    """What stands below one `##`, or above the first."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def runs(self) -> bool:
        return any(block.mark in ("python", "console") for block in self.blocks)


def sections(page: Path) -> list[Section]:
    text = page.read_text()
    starts = [0, *(match.start() for match in re.finditer(r"^## ", text, re.MULTILINE)), len(text)]
    found = []
    for start, end in pairwise(starts):
        title = text[start:end].partition("\n")[0].lstrip("# ")
        found.append(Section(title, tuple(_blocks(text, start, end))))
    return found


def _blocks(text: str, start: int, end: int) -> Iterator[Block]:
    fences = list(_FENCE.finditer(text, start, end))
    for fence, after in zip_longest(fences, fences[1:]):
        is_answered = after is not None and after["mark"] == "text" and not text[fence.end() : after.start()].strip()
        output = after["text"] if after is not None and is_answered else ""
        line = text.count("\n", 0, fence.start("text")) + 1
        yield Block(fence["mark"], fence["text"], line, output, fence["title"] or "")


def run_section(section: Section, page: Path) -> None:
    """Runs its examples in this process and compares what they print, line by line."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in section.blocks:
        where = f"{page.name}, line {block.line}"
        if block.mark == "python":
            assert _printed_by(block, page, names) == block.output, where
        elif block.mark == "console":
            for match in _COMMAND.finditer(block.text):
                assert _printed_by_command(match["command"]) == match["output"], f"{where}: {match['command']}"


def _printed_by(block: Block, page: Path, names: dict[str, object]) -> str:
    # Blank lines in front, so that a traceback names the line of the page.
    code = compile("\n" * (block.line - 1) + block.text, page, "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)  # noqa: S102 - the page's own examples are what is tested
    return printed.getvalue()


def _printed_by_command(command: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout
