"""Programs of the Linux distribution that the cluster needs: found, or installed from Debian's packages and said so."""

import os
import shutil

from hack.cluster.command import run, search_path
from hack.cluster.errors import CannotRunError
from hack.cluster.progress import Progress

CNI_PLUGINS = "/usr/lib/cni"
_PACKAGE_OF = {
    "buildah": "buildah",
    "busybox": "busybox-static",
    "containerd": "containerd",
    "conntrack": "conntrack",
    f"{CNI_PLUGINS}/bridge": "containernetworking-plugins",
    "ip": "iproute2",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "runc": "runc",
}
_INSTALL_SECONDS = 600


def missing() -> list[str]:
    """Returns the Debian packages whose program is not on this machine, sorted."""
    return sorted(package for program, package in _PACKAGE_OF.items() if not _found(program))


def check() -> None:
    """Raises CannotRunError when something is missing that cannot be installed from here."""
    if (packages := missing()) and not (os.geteuid() == 0 and shutil.which("apt-get", path=search_path())):
        raise CannotRunError(
            f"This machine lacks {', '.join(packages)}, and only root with apt-get can install them here."
        )


def ensure(progress: Progress) -> None:
    """Installs what is missing with apt-get.

    Raises:
        CannotRunError: there is no apt-get, or this is not root.
        CommandError: apt-get failed.
    """
    check()
    if not (packages := missing()):
        return
    progress.say(f"installing from the distribution: {' '.join(packages)}")
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *packages]):
        run(command, seconds=_INSTALL_SECONDS, environment={"DEBIAN_FRONTEND": "noninteractive"})


def _found(program: str) -> bool:
    path = shutil.which(program, path=search_path())
    # In its image a dynamic busybox would have no C library to run with.
    return path is not None and (program != "busybox" or _is_static(path))


def _is_static(path: str) -> bool:
    # A dynamic executable names its loader in the first page.
    with open(path, "rb") as executable:
        return b"/ld-" not in executable.read(4096)
