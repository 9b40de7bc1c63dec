"""Which pods and containers have living processes, told by the control groups that /proc shows.

The kubelet puts a pod's UID into the path of its group (with underscores where systemd manages groups), the runtime
the container's id into that of the container's. A pod's sandbox is a process of it too: while the kubelet may still
start something in a pod, the sandbox lives.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from arbiter.ids import PodUid

_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")
_CONTAINER = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Alive:
    """Pods and containers (64 hexadecimal digits) that have a process."""

    pods: frozenset[PodUid]
    containers: frozenset[str]


def look(proc: Path) -> Alive:
    """Reads every process's control groups. Blocking: call it in a thread.

    Raises:
        OSError: one cannot be read, so nobody could tell what it holds.
    """
    return alive_in(_control_groups(proc))


def alive_in(control_groups: Iterable[str]) -> Alive:
    """What lives by the texts of /proc/*/cgroup."""
    pods: set[PodUid] = set()
    containers: set[str] = set()
    for text in control_groups:
        pods.update(PodUid(uid.replace("_", "-")) for uid in _POD.findall(text))
        containers.update(_CONTAINER.findall(text))
    return Alive(pods=frozenset(pods), containers=frozenset(containers))


def _control_groups(proc: Path) -> Iterable[str]:
    for process in proc.iterdir():
        if process.name.isdigit():
            try:
                yield (process / "cgroup").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
