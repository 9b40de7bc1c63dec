"""Says in one sentence why a cluster cannot run on this machine, before anything is changed."""

import os
import sys
from pathlib import Path

from hack.cluster import binaries, packages
from hack.cluster.command import run
from hack.cluster.errors import CannotRunError, CommandError
from hack.cluster.node import HIDDEN
from hack.cluster.paths import REPOSITORY, cache

_SECONDS = 10.0


def check_can_run(state_directory: Path) -> None:
    """Raises CannotRunError when a cluster with its state in that directory cannot be brought up here."""
    if sys.platform != "linux":
        raise CannotRunError("The local cluster needs Linux: it runs a real kubelet and containerd.")
    if os.geteuid() != 0:
        raise CannotRunError("The local cluster needs root: it makes network namespaces, mounts and cgroups.")
    for path in (state_directory.resolve(), REPOSITORY, cache().resolve(), Path(sys.prefix), Path(sys.base_prefix)):
        for hidden in HIDDEN:
            if path.is_relative_to(hidden):
                raise CannotRunError(f"{path} is below {hidden}, of which each node has its own; use another place.")
    packages.check()
    binaries.check()
    if not _namespaces_work():
        raise CannotRunError("This machine does not let root make mount and network namespaces.")


def _namespaces_work() -> bool:
    try:
        run(["unshare", "--mount", "--net", "true"], seconds=_SECONDS)
    except CommandError:
        return False
    return True
