"""Programs of the Linux distribution that the cluster needs: found, or installed from Debian's packages and said so."""

import os
import shutil
import subprocess

from hack.cluster.errors import CannotRunError, CommandError
from hack.cluster.progress import Progress

CNI_PLUGINS = "/usr/lib/cni"
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
_PACKAGE_OF = {
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


def search_path() -> str:
    """Returns PATH with the system administrator's directories, which an ordinary shell may lack."""
    return f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}"


def program(name: str) -> str:
    """Returns a program's path; raises CommandError when this machine has none."""
    if path := shutil.which(name, path=search_path()):
        return path
    raise CommandError(f"There is no program {name} on this machine.")


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
        CommandError: apt-get failed; the message carries its last line.
    """
    check()
    if not (packages := missing()):
        return
    progress.say(f"installing from the distribution: {' '.join(packages)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
        if done.returncode:
            raise CommandError(f"{' '.join(command)} failed: {_last_line(done.stderr or done.stdout)}")


def _found(program: str) -> bool:
    path = shutil.which(program, path=search_path())
    # In its image a dynamic busybox would have no C library to run with.
    return path is not None and (program != "busybox" or _is_static(path))


def _is_static(path: str) -> bool:
    # A dynamic executable names its loader in the first page.
    with open(path, "rb") as executable:
        return b"/ld-" not in executable.read(4096)


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "it printed nothing"
