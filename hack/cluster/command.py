"""Runs a tool that does one thing and ends. Imports `errors`."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from hack.cluster.errors import CommandError

# Everything of a cluster is on this machine: a proxy that the person's shell names must not be asked for it.
NO_PROXY = {"NO_PROXY": "*", "no_proxy": "*"}
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def search_path() -> str:
    """Returns PATH with the system administrator's directories, which an ordinary shell may lack."""
    return f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}"


def program(name: str) -> str:
    """Returns a program's path; raises CommandError when this machine has none."""
    if path := shutil.which(name, path=search_path()):
        return path
    raise CommandError(f"There is no program {name} on this machine.")


def run(
    command: Sequence[str],
    *,
    seconds: float,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Returns what the command printed.

    Raises:
        CommandError: its exit status was not 0, with what it wrote to stderr; or it took longer than `seconds`.
    """
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"PATH": search_path()} | dict(environment or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{' '.join(command)}: not done after {seconds:g} s.") from error
    if done.returncode:
        raise CommandError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
