"""The cgroups below which each node's kubelet keeps its pods. Works on both hierarchies; proven on version 1 only."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hack.cluster.errors import ComponentError

_REMOVE_SECONDS = 10.0
_ROOT = Path("/sys/fs/cgroup")
# Of the processor, beside others on this machine: without it all pods together would count as much as one process.
_CPU_SHARES, _CPU_WEIGHT = 16384, 1600
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


def create(path: Path) -> None:
    """Makes a cgroup, `path` being relative like `CLUSTER/NODE`, under every controller."""
    if (_ROOT / "cgroup.controllers").exists():
        _create_v2(path)
    else:
        _create_v1(path)


def roots(name: str) -> list[Path]:
    """Returns the directories of the top cgroup `name`, one for each hierarchy that has it."""
    return [path for path in (_ROOT / name, *_ROOT.glob(f"*/{name}")) if path.is_dir()]


def processes(name: str) -> Iterator[int]:
    """Yields the pids in the cgroup `name` and below, some of them more than once."""
    for root in roots(name):
        for path in _from_below(root):
            # A cgroup or its last process may vanish at any time.
            with contextlib.suppress(OSError):
                yield from map(int, (path / "cgroup.procs").read_text().split())


def remove(name: str) -> None:
    """Removes the cgroup `name` and all below, whose processes have ended; raises ComponentError where they stay."""
    for root in roots(name):
        for path in _from_below(root):
            _remove_one(path)


def _from_below(root: Path) -> list[Path]:
    """The cgroups below and at `root`, the deeper ones first; os.walk does not mind those that vanish meanwhile."""
    return [Path(directory) for directory, _, _ in os.walk(root, topdown=False)]


def _remove_one(path: Path) -> None:
    deadline = time.monotonic() + _REMOVE_SECONDS
    while path.exists():
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            # A process that was killed leaves its cgroup some time later.
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise ComponentError(f"The cgroup {path} cannot be removed: {error.strerror}.") from error
            time.sleep(0.05)


def _create_v1(path: Path) -> None:
    for hierarchy in _ROOT.iterdir():
        if not (hierarchy / "cgroup.procs").exists():
            continue
        (hierarchy / path).mkdir(parents=True, exist_ok=True)
    # A new cpuset is empty, and nothing can run in it.
    for level in reversed([path, *path.parents][:-1]):
        for file in ("cpuset.cpus", "cpuset.mems"):
            (_ROOT / "cpuset" / level / file).write_text((_ROOT / "cpuset" / file).read_text())
        (_ROOT / "cpu" / level / "cpu.shares").write_text(str(_CPU_SHARES))


def _create_v2(path: Path) -> None:
    for level in reversed([path, *path.parents]):
        (_ROOT / level).mkdir(exist_ok=True)
        if level != path:
            offered = (_ROOT / level / "cgroup.controllers").read_text().split()
            enabled = " ".join(f"+{name}" for name in _V2_CONTROLLERS if name in offered)
            (_ROOT / level / "cgroup.subtree_control").write_text(enabled)
    for level in (path, *path.parents[:-1]):
        (_ROOT / level / "cpu.weight").write_text(str(_CPU_WEIGHT))
