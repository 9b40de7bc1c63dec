"""`arbiter crds`: the CustomResourceDefinitions of this version, printed or written to files."""

import argparse
import sys
from pathlib import Path

from arbiter_kube.api.crds import manifests


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `arbiter crds` takes."""
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="write one file for each CRD there instead of printing them all",
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints or writes them; 0, or 2 where the directory cannot be written."""
    if arguments.directory is None:
        sys.stdout.write("---\n".join(manifests().values()))
        return 0
    try:
        arguments.directory.mkdir(parents=True, exist_ok=True)
        for name, text in manifests().items():
            (arguments.directory / name).write_text(text)
    except OSError as error:
        print(f"arbiter crds: {arguments.directory} cannot be written: {error.strerror}.", file=sys.stderr)
        return 2
    return 0
