import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster.cluster import Cluster
from hack.cluster.errors import CannotRunError, ClusterError, CommandError, SizeError
from hack.cluster.paths import REPOSITORY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: on-{node}}}
spec:
  nodeName: {node}
  containers: [{{name: shell, image: "local/busybox:1", command: [sh, -c, "echo from {node}; sleep 3600"]}}]
"""


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that is not up yet."""
    made = Cluster(tmp_path / "state")
    yield made
    made.down()


def test_pods_run_on_each_node_and_down_leaves_nothing_behind(bare: Cluster) -> None:
    before = host()
    bare.up(nodes=2, arbiter=False)
    for node in ("gpu-1", "gpu-2"):
        bare.kubectl("create", "--filename=-", stdin=POD.format(node=node))
    bare.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=30s")
    assert bare.kubectl("logs", "on-gpu-1") == "from gpu-1\n"
    assert bare.kubectl("exec", "on-gpu-2", "--", "cat", "/proc/1/comm") == "sleep\n"

    # The search must find what it looks for while that is there.
    assert {kind for kind, _ in traces(bare.directory)} == {"process", "interface", "cgroup", "directory"}
    bare.down()
    assert traces(bare.directory) == []
    assert host() == before


def test_what_a_killed_start_left_is_removed(bare: Cluster) -> None:
    command = [sys.executable, "-m", "hack.cluster", f"--state-dir={bare.directory}", "up", "--without-arbiter"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as starting:
        assert starting.stdout is not None
        for line in starting.stdout:
            if "control plane up" in line:
                starting.send_signal(signal.SIGKILL)
                break
    assert ("interface", bare.name) in traces(bare.directory)
    assert bare.down()
    assert traces(bare.directory) == []
    assert not bare.down()


def test_up_starts_again_what_has_ended_and_nothing_else(bare: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    bare.up(arbiter=False)
    bare.kubectl("create", "--filename=-", stdin=POD.format(node="gpu-1"))
    bare.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=30s")
    for component in ("kube-apiserver", "kubelet/gpu-1", "containerd/gpu-1"):
        bare.kill(component)
        assert not bare.alive(component)
    capsys.readouterr()

    bare.up(arbiter=False)
    assert "starting again: " in capsys.readouterr().out
    assert all(bare.alive(component) for component in bare.components)
    assert eventually(bare, "exec", "on-gpu-1", "--", "echo", "still here") == "still here\n"
    restarts = "--output=jsonpath={.status.containerStatuses[0].restartCount}"
    assert bare.kubectl("get", "pod", "on-gpu-1", restarts) == "0"

    bare.up(arbiter=False)
    assert capsys.readouterr().out.endswith("already up, 1 node with GPUs of 12Gi, without Arbiter\n")


def test_another_size_is_refused_and_the_cluster_stays(bare: Cluster) -> None:
    bare.up(arbiter=False)
    with pytest.raises(SizeError, match=r"This cluster has 1 node .* for 2 nodes .* run make cluster-down first"):
        bare.up(nodes=2, arbiter=False)
    assert bare.node_exec("gpu-1", "ls", "/run/containerd/containerd.sock") == "/run/containerd/containerd.sock\n"


def test_a_cluster_below_a_folder_that_each_node_has_for_itself_is_refused() -> None:
    before = host()
    with pytest.raises(CannotRunError, match="is below /run, of which each node has its own"):
        Cluster(Path("/run/cluster")).up(arbiter=False)
    assert host() == before


def test_a_folder_with_other_files_is_never_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ClusterError, match="holds files but no cluster"):
        Cluster(tmp_path).up(arbiter=False)
    assert not Cluster(tmp_path).down()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def eventually(cluster: Cluster, *arguments: str) -> str:
    """Repeats kubectl until it succeeds: a new kubelet takes a moment to know its pods."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return cluster.kubectl(*arguments)
        except CommandError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def traces(directory: Path) -> list[tuple[str, str]]:
    """Returns everything on this machine that names a cluster's state directory or bears the cluster's name."""
    words = (str(directory).encode(), Cluster(directory).name.encode())
    found = [("process", process.name) for process in processes() if any(word in seen(process) for word in words)]
    found += [("interface", path.name) for path in Path("/sys/class/net").iterdir() if path.name == words[1].decode()]
    found += [("cgroup", str(path)) for path in Path("/sys/fs/cgroup").rglob(words[1].decode())]
    mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    found += [("mount", line.decode()) for line in mounts if any(word in line for word in words)]
    return found + ([("directory", str(directory))] if directory.exists() else [])


def processes() -> list[Path]:
    ours = {os.getpid(), os.getppid()}
    return [path for path in Path("/proc").glob("[0-9]*") if int(path.name) not in ours]


def seen(process: Path) -> bytes:
    """Returns what a process shows of where it belongs: arguments, environment, cgroup and mounts."""
    shown = b""
    # Processes end while this looks at them.
    with contextlib.suppress(OSError):
        for file in ("cmdline", "environ", "cgroup", "mountinfo"):
            shown += (process / file).read_bytes()
    return shown


def host() -> dict[str, list[str]]:
    """Returns what lies in the folders that kubelets and container runtimes write to by default."""
    folders = ("/etc", "/opt", "/run", "/usr/libexec", "/var/lib", "/var/log")
    return {folder: sorted(os.listdir(folder)) for folder in folders}
