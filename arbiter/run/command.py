"""A target as an engine's command: pure, from the user's words, the table's rows and the target's numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from arbiter.client import QualityTarget
from arbiter.run.errors import RunError
from arbiter.run.tables import Row, Table

__all__ = ["Choice", "Command", "Recipe", "Setting", "has_flag", "parse_choice", "parse_setting"]

_GIB = 1 << 30
_NAME = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_FIXED = ("gpu_count", "gpus")
"""Values that never change while a container lives."""


@dataclass(frozen=True)
class Command:
    """What is executed: arguments, and what is put over the environment."""

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Setting:
    """``--set``: an argument with names in braces. `flag` is its part before the first ``=``."""

    flag: str
    text: str


@dataclass(frozen=True)
class Choice:
    """``--choose``: a name whose value goes by quality: the first one whose quality is not above the target's."""

    name: str
    steps: tuple[tuple[float, str], ...]

    def value(self, quality: float) -> str:
        """The value at a quality 0..1."""
        return next(value for least, value in self.steps if quality >= least)


@dataclass(frozen=True)
class Recipe:
    """How a target becomes a command. `headroom` is bytes per GPU of the target that the flags leave unsaid."""

    command: tuple[str, ...]
    table: Table
    settings: tuple[Setting, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    choices: tuple[Choice, ...] = ()
    headroom: int = 0

    def check(self) -> None:
        """See that the command can follow a target.

        Raises:
            RunError: a name stands for nothing, a flag is the command's own, or nothing depends on the target.
        """
        known = {"quality", "vram_bytes", "vram_mib", "vram_gib", "gpu_fraction", "reserve_gib", "pressure", *_FIXED}
        known |= {choice.name for choice in self.choices}
        used = {name for text in self._templates() for name in _NAME.findall(text)}
        for name in sorted(used - known):
            raise RunError(f"{{{name}}} stands for nothing; write one of {', '.join(sorted(known))}")
        for row in self.table.rows:
            if row.binding and has_flag(self.command, row):
                raise RunError(f"{row.flag} is set from the target; leave it out of the command")
        if not used.difference(_FIXED):
            raise RunError(
                "nothing in the command depends on the target; name the kind of engine with --engine, or write for "
                "example --set '--memory-fraction={gpu_fraction}'"
            )

    def at(self, target: QualityTarget) -> Command:
        """The command that keeps an engine within the target.

        Raises:
            RunError: the headroom leaves nothing of it.
        """
        values = self._values(target)
        rows = [f"{row.flag}={row.value}" for row in self.table.rows if self._applies(row)]
        added = [_fill(text, values) for text in (*rows, *(setting.text for setting in self.settings))]
        environment = {name: _fill(text, values) for name, text in self._environment()}
        return Command((*self.command, *added), tuple(sorted(environment.items())))

    def _applies(self, row: Row) -> bool:
        return not has_flag(self.command, row) and all(setting.flag != row.flag for setting in self.settings)

    def _environment(self) -> tuple[tuple[str, str], ...]:
        return (*self.table.environment, *self.environment)

    def _templates(self) -> list[str]:
        rows = [row.value for row in self.table.rows if self._applies(row)]
        return [*rows, *(setting.text for setting in self.settings), *(text for _, text in self._environment())]

    def _values(self, target: QualityTarget) -> dict[str, str]:
        vram = target.vram_bytes - self.headroom
        if vram <= 0:
            raise RunError(
                f"--headroom leaves nothing of the target's {target.vram_bytes >> 20}Mi; write a smaller one, or a "
                "larger arbiter.infernum.io/vram-floor"
            )
        fraction = math.floor(target.gpu_fraction * vram / target.vram_bytes * 10_000) / 10_000
        total = target.vram_bytes / target.gpu_fraction if target.gpu_fraction else 0.0
        values = {
            "quality": f"{target.quality:.3f}",
            "vram_bytes": str(vram),
            "vram_mib": str(vram >> 20),
            "vram_gib": f"{math.floor(vram / _GIB * 100) / 100:.2f}",
            "gpu_fraction": f"{fraction:.4f}",
            "reserve_gib": f"{math.ceil(max(0.0, total - vram) / _GIB * 100) / 100:.2f}",
            "pressure": target.pressure,
            "gpu_count": str(len(target.gpus)),
            "gpus": ",".join(target.gpus),
        }
        values.update((choice.name, choice.value(target.quality)) for choice in self.choices)
        return values


def has_flag(command: Sequence[str], row: Row) -> bool:
    """Whether a command says the flag of a row itself, as two words or as one."""
    spellings = (row.flag, row.flag.replace("-", "_").replace("__", "--", 1), *row.others)
    return any(word.partition("=")[0] in spellings for word in command)


def parse_setting(text: str) -> Setting:
    """``--flag={gpu_fraction}`` of the command line."""
    return Setting(text.partition("=")[0], text)


def parse_choice(text: str) -> Choice:
    """``offload=none:1,model:0.5,sequential:0`` of the command line.

    Raises:
        RunError: it is none, or says nothing for the lowest qualities.
    """
    name, equals, steps = text.partition("=")
    try:
        pairs = [step.rpartition(":") for step in steps.split(",")]
        by_quality = tuple(sorted(((float(least), value) for value, _, least in pairs), reverse=True))
    except ValueError:
        by_quality = ()
    if not (equals and re.fullmatch(r"[a-z][a-z0-9_]*", name) and by_quality and by_quality[-1][0] == 0):
        raise RunError(
            f'"{text}" is no choice by quality that ends at 0; write for example '
            "--choose offload=none:1,model:0.5,sequential:0"
        )
    return Choice(name, by_quality)


def _fill(text: str, values: dict[str, str]) -> str:
    return _NAME.sub(lambda match: values[match[1]], text)
