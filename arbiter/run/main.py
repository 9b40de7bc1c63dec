"""Puts the parts of `arbiter-run` together."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from arbiter.client import NotUnderArbiterError, QualityError, watch_quality
from arbiter.run.errors import RunError
from arbiter.run.options import BAD_USAGE, parse
from arbiter.run.supervisor import NO_TARGET, Orders, Supervisor, say

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an engine; its exit code, 1 without a target, 2 for a command line that cannot work."""
    try:
        orders, only_show = parse(sys.argv[1:] if arguments is None else arguments)
        return _show(orders) if only_show else Supervisor(orders, watch_quality()).run()
    except (RunError, NotUnderArbiterError) as error:
        say(f"{str(error).rstrip('.')}.")
        return BAD_USAGE
    except QualityError as error:
        say(str(error))
        return NO_TARGET


def _show(orders: Orders) -> int:
    command = orders.recipe.at(next(watch_quality()))
    words = [f"{name}={shlex.quote(value)}" for name, value in command.environment]
    print(" ".join((*words, shlex.join(command.arguments))))
    return 0
