"""A view of /proc in which our own processes are containers of pods, as the kubelet would have put them into groups."""

import secrets
from pathlib import Path


class View:
    """A directory that shows the host's processes, some of them under the groups that we say."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for process in Path("/proc").iterdir():
            if process.name.isdigit() or process.name == "self":
                (directory / process.name).symlink_to(process)

    def claim(self, pid: int, pod: str) -> None:
        """From now on this process is the container of a pod."""
        entry = self.directory / str(pid)
        entry.unlink(missing_ok=True)
        entry.mkdir()
        (entry / "cgroup").write_text(f"0::/kubepods/burstable/pod{pod}/{secrets.token_hex(32)}\n")
