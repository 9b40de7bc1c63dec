"""One node: a real kubelet and containerd with directories of their own, in a private mount namespace.

To them the node looks like a machine of its own: /var/lib, /var/log and /run are its own, the rest is the host's.
"""

import contextlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from hack.cluster import binaries, cgroups
from hack.cluster.command import run
from hack.cluster.controlplane import ControlPlane
from hack.cluster.errors import CommandError
from hack.cluster.images import PAUSE, digest
from hack.cluster.netns import Network
from hack.cluster.packages import CNI_PLUGINS
from hack.cluster.process import Processes, start_time

HIDDEN = ("/var/lib", "/var/log", "/run")
KUBELET_DIRECTORY = Path("/var/lib/kubelet")
_BUNDLES = "run/containerd/io.containerd.runtime.v2.task/k8s.io"
_CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
_COMMAND_SECONDS = 120.0
_READY_SECONDS = 60.0


@dataclass(frozen=True)
class Container:
    """A container that runs: containerd's name of it, and the host's number of its first process."""

    id: str
    pid: int


@dataclass(frozen=True)
class Node:
    """Node number `index` (from 0) of a cluster; `directory` holds all that it writes, `cluster` names its cgroup."""

    index: int
    cluster: str
    directory: Path
    network: Network
    processes: Processes

    @property
    def name(self) -> str:
        """The name of the Node object."""
        return node_name(self.index)

    @property
    def address(self) -> str:
        """The node's internal IP address."""
        return self.network.node(self.index)

    @property
    def gpus_file(self) -> Path:
        """The file of its simulated GPUs, where the chart has the agent look for it."""
        return self.directory / "root" / "var" / "lib" / "arbiter" / "gpus.yaml"

    @property
    def pod_logs(self) -> Path:
        """The directory with what its containers print, as the kubelet arranges it."""
        return self.directory / "root" / "var" / "log" / "pods"

    @property
    def enter(self) -> tuple[str, ...]:
        """The command prefix that runs a program in the node's mount and network namespaces."""
        return (*self.network.enter, f"--mount=/proc/{self.processes.pid(self._namespace)}/ns/mnt")

    def exists(self) -> bool:
        """Says whether the node's mount namespace is there."""
        return self.processes.alive(self._namespace)

    def start_runtime(self, archives: Sequence[Path]) -> None:
        """Makes the mount namespace and cgroup, starts containerd and imports the images that it lacks."""
        cgroups.create(self._cgroup)
        self._hold_namespace()
        self._write("containerd.toml", _containerd_config(cni=self.directory / "cni"))
        self._write("cni/10-arbiter.conflist", _cni_config(self.index))
        self.processes.start(
            self._containerd, (*self.enter, "containerd", "--config", str(self.directory / "containerd.toml"))
        )
        self.processes.wait(self._containerd, "answer on its socket", self._containerd_answers, seconds=_READY_SECONDS)
        for archive in archives:
            self.add_image(archive)

    def start_kubelet(self, control_plane: ControlPlane) -> None:
        """Starts the kubelet; the node is Ready some time afterwards."""
        user = f"system:node:{self.name}"
        serving = control_plane.authority.issue(
            f"kubelet-{self.name}", common_name=self.name, hosts=(self.name, self.address)
        )
        self._write(
            "kubelet.yaml",
            _kubelet_config(
                address=self.address,
                cgroup=self._cgroup,
                certificate=serving.certificate,
                key=serving.key,
                authority=control_plane.authority.pair.certificate,
            ),
        )
        kubelet = (
            str(binaries.directory() / "kubelet"),
            f"--config={self.directory / 'kubelet.yaml'}",
            f"--kubeconfig={control_plane.kubeconfig(user, ['system:nodes'])}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            # With a container its log goes, which tells why it ended.
            "--maximum-dead-containers-per-container=100",
        )
        self.processes.start(self._kubelet, (*self.enter, *kubelet))

    def ready(self, control_plane: ControlPlane) -> bool:
        """Says whether the Node object is Ready and the kubelet answers the API server."""
        answer = control_plane.get(f"/api/v1/nodes/{self.name}")
        conditions = json.loads(answer)["status"].get("conditions", []) if answer else []
        says_so = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        # After a restart the former kubelet's word still stands for a while.
        return says_so and control_plane.get(f"/api/v1/nodes/{self.name}/proxy/healthz") is not None

    def wait_ready(self, control_plane: ControlPlane) -> None:
        """Waits until the node is ready."""
        what = f"Ready node {self.name}"
        self.processes.wait(self._kubelet, what, lambda: self.ready(control_plane), seconds=_READY_SECONDS)

    def add_image(self, archive: Path) -> None:
        """Imports an image archive into this node's containerd, unless it has it."""
        # containerd keeps a second reference to each image for the kubelet: its configuration's digest.
        if f"sha256:{digest(archive)}" not in self._ctr("images", "list", "--quiet").split():
            self._ctr("images", "import", str(archive))

    def containers(self, namespace: str, name: str) -> list[Container]:
        """Returns the containers of this name that run in pods of that namespace.

        They are found by the files of their runtime, which are there while containerd is not.
        """
        wanted = {"container-type": "container", "container-name": name, "sandbox-namespace": namespace}
        labels = {f"io.kubernetes.cri.{key}": value for key, value in wanted.items()}
        found = []
        for bundle in (self.directory / "root" / _BUNDLES).glob("*"):
            # A container may vanish, or not be complete yet, while this looks at it.
            with contextlib.suppress(OSError, ValueError):
                if labels.items() <= json.loads((bundle / "config.json").read_text())["annotations"].items():
                    pid = int((bundle / "init.pid").read_text())
                    # Another process may have that number by now.
                    if start_time(pid) is not None and bundle.name in Path(f"/proc/{pid}/cgroup").read_text():
                        found.append(Container(bundle.name, pid))
        return found

    def container_log(self, namespace: str, name: str) -> str:
        """Returns what the containers of this name printed, those that ended before included, oldest first."""
        paths = sorted(self.pod_logs.glob(f"{namespace}_*/{name}/*.log"), key=lambda path: path.stat().st_mtime_ns)
        lines = (line for path in paths for line in path.read_text(errors="replace").splitlines())
        # The runtime writes `time stream tag text`.
        return "".join(f"{line.split(' ', 3)[-1]}\n" for line in lines)

    def run(self, *command: str) -> str:
        """Runs a command as on the node and returns what it printed; raises CommandError when it fails."""
        return run([*self.enter, *command], seconds=_COMMAND_SECONDS)

    @property
    def _namespace(self) -> str:
        return f"namespace/{self.name}"

    @property
    def _containerd(self) -> str:
        return f"containerd/{self.name}"

    @property
    def _kubelet(self) -> str:
        return f"kubelet/{self.name}"

    @property
    def _cgroup(self) -> Path:
        return Path(self.cluster, self.name)

    def _hold_namespace(self) -> None:
        """Starts a process that does nothing but keep the mount namespace."""
        made = self.directory / "namespace-made"
        lines = ["set -e"]
        for hidden in HIDDEN:
            own = self.directory / "root" / hidden.lstrip("/")
            own.mkdir(parents=True, exist_ok=True)
            lines.append(f"mount --bind {shlex.quote(str(own))} {hidden}")
        # The kubelet's mounts for volumes must reach the containers' namespaces.
        lines += ["mount --make-rshared /", f"touch {shlex.quote(str(made))}", "exec sleep infinity"]
        unshare = ("unshare", "--mount", "--propagation=private", "sh", "-c", "\n".join(lines))
        self.processes.start(self._namespace, (*self.network.enter, *unshare))
        self.processes.wait(self._namespace, "mount namespace", made.exists, seconds=_READY_SECONDS)

    def _containerd_answers(self) -> bool:
        try:
            self._ctr("version")
        except CommandError:
            return False
        return True

    def _ctr(self, *arguments: str) -> str:
        return self.run("ctr", "--address", _CONTAINERD_SOCKET, "--namespace", "k8s.io", *arguments)

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def node_name(index: int) -> str:
    """Returns the name of node number `index`, counted from 0."""
    return f"gpu-{index + 1}"


def _containerd_config(*, cni: Path) -> str:
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc fails with "can't get final child's PID".
    return f"""version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{cni}"
"""


def _cni_config(index: int) -> str:
    bridge = {
        "type": "bridge",
        "bridge": f"pods-{index}",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": f"10.244.{index}.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return json.dumps({"cniVersion": "0.4.0", "name": "arbiter", "plugins": [bridge]}, indent=1)


def _kubelet_config(*, address: str, cgroup: Path, certificate: Path, key: Path, authority: Path) -> str:
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "healthzBindAddress": address,
        "containerRuntimeEndpoint": f"unix://{_CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": False,
        # Its default is outside of what this node has to itself.
        "volumePluginDir": str(KUBELET_DIRECTORY / "volume-plugins"),
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        # New devices appear in the Node with the next status update: 1 s instead of 10 s.
        "nodeStatusUpdateFrequency": "1s",
        # A container that was killed time and again is soon there again, without minutes of back-off.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        # A full disk of the person at the keyboard is no reason to evict pods or delete images.
        "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
    }
    return yaml.safe_dump(config, sort_keys=False)
