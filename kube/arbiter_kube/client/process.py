"""How every process of Arbiter starts and ends: flags with environment variables, log lines, signals, exit codes."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from arbiter.units import MIB, QuantityError, parse_bytes
from arbiter_kube.client.credentials import CredentialsError
from arbiter_kube.client.health import Bind, InvalidBindError, parse_bind

OK, BAD_USAGE = 0, 2

_LEVELS = ("debug", "info", "warning", "error")


class ConfigurationError(Exception):
    """A setting that cannot work; the text is one sentence that names it and says what to write instead."""


def add_flag(
    parser: argparse.ArgumentParser,
    name: str,
    *,
    help: str,  # argparse's word
    default: str | None = None,
    type: Callable[[str], Any] = str,  # argparse's word; what it makes is the flag's own business
    choices: tuple[str, ...] | None = None,
) -> None:
    """Adds ``--some-name`` whose default is the environment's ARBITER_SOME_NAME, else `default`, both as text."""
    variable = "ARBITER_" + name.removeprefix("--").replace("-", "_").upper()
    shown = f", {default} by default" if default is not None else ""
    parser.add_argument(
        name,
        type=type,
        default=os.environ.get(variable) or default,
        choices=choices,
        help=f"{help} (${variable}{shown})".replace("%", "%%"),  # argparse fills in what follows a single one
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """--kubeconfig, --health-bind, --vram-unit (bytes) and --log-level, as every process takes them."""
    add_flag(parser, "--kubeconfig", type=Path, help="kubeconfig file; without it the pod's service account")
    add_flag(parser, "--health-bind", type=bind, default="0.0.0.0:8080", help="HOST:PORT of probes and metrics")
    add_flag(
        parser, "--vram-unit", type=vram_unit, default="1Gi", help="memory that one unit of the resource stands for"
    )
    add_flag(parser, "--log-level", choices=_LEVELS, default="info", help="least severe messages to log")


def bind(text: str) -> Bind:
    """HOST:PORT for argparse."""
    try:
        return parse_bind(text)
    except InvalidBindError as error:
        raise argparse.ArgumentTypeError(f"{error}.") from error


def vram_unit(text: str) -> int:
    """Bytes for argparse: whole MiB, since targets are told in them."""
    try:
        size = parse_bytes(text)
    except QuantityError as error:
        raise argparse.ArgumentTypeError(f"{error}.") from error
    if size < MIB or size % MIB:
        raise argparse.ArgumentTypeError(f"{text} is not whole MiB; write for example 256Mi or 1Gi.")
    return size


def run_process(main: Coroutine[Any, Any, None], *, log_level: str) -> int:
    """Runs `main` until it ends or SIGTERM or SIGINT cancels it; returns the exit code.

    A ConfigurationError or CredentialsError becomes one line on stderr and 2; any other error ends the process with
    its traceback, since every process can be started again at any time.
    """
    configure_logging(log_level)
    try:
        asyncio.run(_until_signal(main))
    except (ConfigurationError, CredentialsError) as error:
        print(error, file=sys.stderr)
        return BAD_USAGE
    return OK


async def _until_signal(main: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(main)
    loop = asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise


def configure_logging(level: str) -> None:
    """Lines on stderr. Messages bring their key=value: ``log.info("pod bound pod=%s node=%s", pod, node)``."""
    formatter = logging.Formatter(
        "time=%(asctime)s.%(msecs)03dZ level=%(levelname)s logger=%(name)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
