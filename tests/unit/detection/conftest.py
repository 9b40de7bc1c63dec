"""A machine with the vendors' tools that a test puts on its PATH: real programs, and nothing else is found there."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the tools are."""

    directory: Path

    def script(self, name: str, body: str) -> None:
        """A tool that is a shell script; it must name what it runs by its path."""
        tool = self.directory / name
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(0o755)

    def tool(self, name: str, answers: Mapping[str, str], *, stderr: str = "", code: int = 0) -> None:
        """A tool that knows these command lines and answers each with its text."""
        cases = []
        for number, (arguments, text) in enumerate(answers.items()):
            file = self.directory / f"{name}.{number}"
            file.write_text(text)
            cases.append(f"{shlex.quote(arguments)}) /bin/cat {shlex.quote(str(file))};;")
        complaint = f"printf '%s\\n' {shlex.quote(stderr)} >&2" if stderr else ":"
        unknown = '*) echo "unknown arguments: $*" >&2; exit 64;;'
        self.script(name, f'case "$*" in {" ".join(cases)} {unknown} esac\n{complaint}\nexit {code}')


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    return Machine(tools)
