"""Which pods and containers have living processes, told by the control groups that /proc shows.

The kubelet puts a pod's UID into the path of its group (with underscores where systemd manages groups), the runtime
the container's id into that of the container's. A pod's sandbox is a process of it too: while the kubelet may still
start something in a pod, the sandbox lives. A static pod's UID there is the kubelet's own, a hash of its manifest:
the API server gives its mirror another.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from arbiter.ids import PodUid

_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-f])")
_CONTAINER = re.compile(r"[0-9a-f]{64}")
_CONTAINER_GROUP = re.compile(r"^0::(/.*([0-9a-f]{64})[^/\n]*)", re.MULTILINE)
_UNIFIED = re.compile(r"^0::(/.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Alive:
    """Pods, by the UIDs under which the kubelet knows them, and containers (64 hexadecimal digits) with a process.

    `groups` are the paths of containers' control groups below the root of version 2, empty where that is not used.
    """

    pods: frozenset[PodUid]
    containers: frozenset[str]
    groups: Mapping[str, str] = field(default_factory=dict)


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
    groups: dict[str, str] = {}
    for text in control_groups:
        pods.update(_pods(text))
        containers.update(_CONTAINER.findall(text))
        if found := _CONTAINER_GROUP.search(text):
            groups[found[2]] = found[1]
    return Alive(pods=frozenset(pods), containers=frozenset(containers), groups=groups)


def pod_of(proc: Path, pid: int) -> str | None:
    """The UID of the pod that a process belongs to; empty for one of no pod, None for one that /proc does not show.

    Where nodes are containers themselves a path names several pods: the innermost is the node's own.
    """
    text = _read(proc / str(pid))
    return None if text is None else next(reversed(_pods(text)), "")


def control_group_of(proc: Path, process: str) -> str | None:
    """The path of a process's group below the root of version 2; None where there is no such hierarchy."""
    found = _UNIFIED.search(_read(proc / process) or "")
    return found[1] if found else None


def _pods(text: str) -> list[PodUid]:
    return [PodUid(uid.replace("_", "-")) for uid in _POD.findall(text)]


def _control_groups(proc: Path) -> Iterable[str]:
    for process in proc.iterdir():
        if process.name.isdigit() and (text := _read(process)) is not None:
            yield text


def _read(process: Path) -> str | None:
    """The process's control groups; None where it has ended."""
    try:
        # Whoever may make groups names them by any bytes.
        return (process / "cgroup").read_text(errors="surrogateescape")
    except (FileNotFoundError, ProcessLookupError):
        return None
