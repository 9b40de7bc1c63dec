"""The command line: `python -m hack.cluster up --nodes 2 --gpus 12Gi,24Gi` and `down`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hack.cluster import binaries
from hack.cluster.cluster import Cluster, prepare
from hack.cluster.errors import CannotRunError, ClusterError, SizeError
from hack.cluster.paths import REPOSITORY
from hack.cluster.progress import Progress

STATE_DIRECTORY = REPOSITORY / ".cluster"


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    main_parser = argparse.ArgumentParser(
        prog="python -m hack.cluster", description="A real Kubernetes cluster with simulated GPUs on this machine."
    )
    main_parser.add_argument(
        "--state-dir", type=Path, default=STATE_DIRECTORY, help="where everything of the cluster lies (.cluster)"
    )
    commands = main_parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring it up; nothing is done where it is up")
    up.add_argument("--nodes", type=int, default=1, help="number of nodes (1)")
    up.add_argument("--gpus", default="12Gi", help="usable memory of each node's GPUs, like 12Gi,24Gi (12Gi)")
    up.add_argument("--without-arbiter", action="store_true", help="the bare cluster")
    commands.add_parser("down", help="remove it and all that it made")
    commands.add_parser("prepare", help="only install and build what is missing for it")
    commands.add_parser("binaries", help="only build Kubernetes, etcd, Helm and Prometheus, and print where they are")
    return main_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, 1 when it failed, 2 when it cannot do that here or was asked wrongly."""
    options = parser().parse_args(arguments)
    cluster = Cluster(options.state_dir)
    try:
        match options.command:
            case "up":
                cluster.up(nodes=options.nodes, gpus=options.gpus, arbiter=not options.without_arbiter)
                print(_how_to_use(cluster))
            case "down":
                print(f"Removed the cluster in {_short(cluster.directory)}." if cluster.down() else "No cluster is up.")
            case "prepare":
                prepare(Progress())
            case _:
                print(binaries.ensure(binaries.ALL))
    except (SizeError, CannotRunError) as error:
        print(error, file=sys.stderr)
        return 2
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted: make cluster-down removes what was made.", file=sys.stderr)
        return 130
    return 0


def _how_to_use(cluster: Cluster) -> str:
    return (
        f"Use it:  export KUBECONFIG={_short(cluster.kubeconfig)}\n"
        f"         {binaries.directory() / 'kubectl'} get nodes\n"
        f"Logs:    {_short(cluster.directory)}/logs\n"
        "Stop it: make cluster-down"
    )


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
