"""The command line of `arbiter-run`: options, then the engine's own command."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from arbiter.run.command import Recipe, parse_choice, parse_setting
from arbiter.run.errors import RunError
from arbiter.run.lifecycle import Limits
from arbiter.run.readiness import Readiness, parse_url, readiness_of
from arbiter.run.supervisor import Orders
from arbiter.run.tables import TABLES, Table, recognise

__all__ = ["BAD_USAGE", "parse"]

BAD_USAGE = 2

_WITHOUT_VALUE = ("--show", "--help", "-h")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+)(Ki|Mi|Gi)")
_BYTES = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}

_EPILOG = """names for --set and --env: {quality} {vram_bytes} {vram_mib} {vram_gib} {gpu_fraction} {reserve_gib}
{gpu_count} {gpus} {pressure} and those of --choose. Sizes are per GPU, without the headroom; reserve_gib is what the
GPU has beyond them."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(BAD_USAGE, f"arbiter-run: {message}; see arbiter-run --help.\n")


def parse(arguments: Sequence[str]) -> tuple[Orders, bool]:
    """What to run, and whether only to show it.

    Raises:
        RunError: it cannot work.
        SystemExit: --help, or options that argparse refuses.
    """
    own, command = _split(arguments)
    options = _parser().parse_args(own)
    if not command:
        raise RunError("no engine to run; write its command after the options, such as arbiter-run vllm serve MODEL")
    if shutil.which(command[0]) is None:
        raise RunError(f"{command[0]} is no program in this image; write the engine's command after the options")
    table = _without_set_environment(TABLES[options.engine] if options.engine else recognise(command))
    recipe = Recipe(
        command=command,
        table=table,
        settings=tuple(map(parse_setting, options.set)),
        environment=tuple(map(_variable, options.env)),
        choices=tuple(map(parse_choice, [*options.choose, *_defaults(table, options.choose)])),
        headroom=table.headroom if options.headroom is None else options.headroom,
    )
    recipe.check()
    limits = Limits(
        min_interval=options.min_interval,
        grace=options.grace,
        ready_timeout=options.ready_timeout,
        retries=options.retries,
    )
    orders = Orders(recipe, _readiness(options, table, command), limits, options.drain_signal)
    return orders, options.show


def _split(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Our options, each in one word with its value, and the engine's command.

    argparse would take the value of ``--set --flag={gpu_fraction}`` for an option of its own.
    """
    own: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        has_value = "=" not in word and word not in _WITHOUT_VALUE and rest
        own.append(f"{word}={rest.pop(0)}" if has_value else word)
    return own, tuple(rest)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="arbiter-run",
        usage="arbiter-run [OPTION ...] ENGINE [ARGUMENT ...]",
        description="Run an engine with the flags that its target means, and again with others on a new target.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--engine", choices=sorted(TABLES), help="kind of engine (default: told by its command)")
    add("--set", action="append", default=[], metavar="ARGUMENT", help="an argument, such as --flag={gpu_fraction}")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="a variable, such as SHARE={gpu_fraction}")
    add("--choose", action="append", default=[], metavar="NAME=VALUE:QUALITY,...", help="a value that goes by quality")
    add("--headroom", type=_size, metavar="SIZE", help="memory that the engine takes beside what its flags say")
    add("--min-interval", type=_seconds, default="60s", metavar="TIME", help="least time from start to start (60s)")
    add("--drain-signal", type=_signal, default="TERM", metavar="NAME", help="asks the engine to end (TERM)")
    add("--grace", type=_seconds, default="30s", metavar="TIME", help="from that signal to SIGKILL (30s)")
    ready = parser.add_mutually_exclusive_group()
    ready.add_argument("--ready-url", type=_url, metavar="URL", help="up when this answers 200")
    ready.add_argument("--ready-port", type=_port, metavar="PORT", help="up when something listens here")
    ready.add_argument("--ready-log", type=_pattern, metavar="REGEX", help="up when it prints a line with this")
    ready.add_argument("--ready-after", type=_seconds, metavar="TIME", help="up when it has lived this long (5s)")
    add("--ready-timeout", type=_seconds, default="30m", metavar="TIME", help="a start that takes longer failed (30m)")
    add("--retries", type=int, default=5, metavar="N", help="failed starts in a row that are tried again (5)")
    add("--show", action="store_true", help="print the command for the present target, and end")
    return parser


def _readiness(options: argparse.Namespace, table: Table, command: Sequence[str]) -> Readiness:
    if options.ready_after is not None:
        return Readiness(after=options.ready_after)
    if (options.ready_url, options.ready_port, options.ready_log) != (None, None, None):
        return Readiness(url=options.ready_url, port=options.ready_port, log=options.ready_log)
    return readiness_of(table, command)


def _without_set_environment(table: Table) -> Table:
    """The table without the variables that the container has already: people know why they set them."""
    return replace(table, environment=tuple(pair for pair in table.environment if pair[0] not in os.environ))


def _defaults(table: Table, chosen: Sequence[str]) -> list[str]:
    names = {text.partition("=")[0] for text in chosen}
    return [f"{name}={steps}" for name, steps in table.choices if name not in names]


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise RunError(f'"{text}" is no variable; write for example --env SHARE={{gpu_fraction}}')
    return name, value


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f'"{text}" is no time; write for example 90s or 5m')
    return float(match[1]) * _SECONDS[match[2]]


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f'"{text}" is no size; write for example 512Mi')
    return int(match[1]) * _BYTES[match[2]]


def _signal(text: str) -> int:
    try:
        return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"].value
    except KeyError:
        raise argparse.ArgumentTypeError(f'"{text}" is no signal; write for example TERM or INT') from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f'"{text}" is no port; write for example 8000')
    return int(text)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f'"{text}" is no regular expression: {error}') from None


def _url(text: str) -> str:
    try:
        return parse_url(text)
    except RunError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
