"""A cluster: brings it up and down, finds it again from its state directory, runs commands in it."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from hack import image
from hack.cluster import binaries, cgroups, chart, gpus, images, packages
from hack.cluster.command import run
from hack.cluster.controlplane import POD_NETWORK, Component, ControlPlane, Place, Ports
from hack.cluster.errors import ClusterError, ComponentError, SizeError
from hack.cluster.installation import RESOURCE, Installation
from hack.cluster.netns import INSIDE, NODES_MAXIMUM, Network, choose_subnet, remove_interface
from hack.cluster.node import Node, node_name
from hack.cluster.paths import REPOSITORY
from hack.cluster.preflight import check_can_run
from hack.cluster.process import Processes, start_time
from hack.cluster.progress import Progress

# In the environment of every process that a cluster starts, and so of their children.
_MARKER = "LOCAL_CLUSTER"
_END_SECONDS = 30.0
_DEFAULTS_SECONDS = 30.0
_ENGINE_FILES = {
    "/engine/engine.py": REPOSITORY / "hack" / "engine" / "engine.py",
    "/engine/arbiter/client.py": REPOSITORY / "arbiter" / "client.py",
}


@dataclass(frozen=True)
class Size:
    """The number of nodes, the GPUs of each as `12Gi,24Gi` (usable memory), and whether Arbiter runs."""

    nodes: int
    gpus: str
    arbiter: bool

    def __str__(self) -> str:
        arbiter = "" if self.arbiter else ", without Arbiter"
        return f"{self.nodes} node{'' if self.nodes == 1 else 's'} with GPUs of {self.gpus}{arbiter}"

    def check(self) -> None:
        """Raises SizeError when no cluster can have this size."""
        if not 1 <= self.nodes <= NODES_MAXIMUM:
            raise SizeError(f"A cluster has 1 to {NODES_MAXIMUM} nodes, not {self.nodes}.")
        gpus.parse(self.gpus)


@dataclass(frozen=True)
class _State:
    """What is written down before anything else is made, so that a crash leaves nothing that cannot be found.

    `installed` stands for the image and the chart of the installation.
    """

    size: Size
    subnet: int
    complete: bool = False
    installed: str | None = None


def prepare(progress: Progress) -> None:
    """Installs and builds whatever a cluster needs and this machine lacks; starts nothing."""
    packages.ensure(progress)
    binaries.ensure(progress=progress)
    image.ensure_archive(progress)


def arbiter_images(directory: Path, progress: Progress) -> list[Path]:
    """Returns the archives of the images that the chart names: Arbiter's with `content_tag`, and kube-scheduler's."""
    return [image.ensure_archive(progress), images.scheduler_image(directory)]


class Cluster:
    """The cluster whose state is in `directory`, be it up or not."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        # Of its interface and cgroups, and in the environment of its processes.
        self.name = f"arb-{hashlib.sha256(str(self.directory).encode()).hexdigest()[:8]}"
        self._processes = Processes(self.directory, environment={_MARKER: self.name})

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; its address is reachable from the host."""
        return self.control_plane.admin_kubeconfig

    @property
    def components(self) -> list[str]:
        """The names of all processes, such as `operator` and `kubelet/gpu-1`: the host's by their start, then pods'."""
        return [*self._processes.names(), *(self._installation.components if self._state.size.arbiter else [])]

    @property
    def control_plane(self) -> ControlPlane:
        """etcd, API server, controller manager and the default scheduler."""
        network = self._network
        return ControlPlane(
            self.directory,
            components=frozenset(Component),
            place=Place(network.control_plane, Ports(), network.enter),
            processes=self._processes,
        )

    @property
    def nodes(self) -> list[Node]:
        """The nodes in the order of their numbers."""
        return [
            Node(
                index=index,
                cluster=self.name,
                directory=self.directory / "nodes" / node_name(index),
                network=self._network,
                processes=self._processes,
            )
            for index in range(self._state.size.nodes)
        ]

    def up(self, *, nodes: int = 1, gpus: str = "12Gi", arbiter: bool = True, progress: Progress | None = None) -> None:
        """Brings the cluster up, or those of its processes that have ended; at once when all of them run.

        Arbiter is installed anew where the code has changed since.

        Raises:
            CannotRunError: this machine cannot; nothing was changed.
            SizeError: the size makes no sense, or a cluster of another size is up.
            ComponentError: a part did not start; what was made stays for a look, and `down` removes it.
        """
        size = Size(nodes=nodes, gpus=gpus, arbiter=arbiter)
        progress = progress or Progress()
        size.check()
        check_can_run(self.directory)
        if self._is_up(size, progress):
            return
        prepare(progress)
        if not self._state_file.exists():
            self._write_state(_State(size=size, subnet=choose_subnet(int(self.name[-2:], 16))))
        installed = self._start(progress)
        self._write_state(_State(size=size, subnet=self._state.subnet, complete=True, installed=installed))

    def down(self) -> bool:
        """Removes all that `up` made, also what it left half made; returns whether there was anything."""
        found = self._state_file.exists() or bool(self._own_processes())
        self._end_processes()
        cgroups.remove(self.name)
        remove_interface(self.name)
        if self._state_file.exists():
            shutil.rmtree(self.directory)
        return found

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl as the administrator and returns what it printed; raises CommandError."""
        return self.control_plane.kubectl(*arguments, stdin=stdin)

    def kill(self, component: str) -> None:
        """Ends a component with SIGKILL and waits until it is gone; in a pod, the kubelet starts it again."""
        if self._is_in_a_pod(component):
            self._installation.kill(component)
        else:
            self._processes.kill(component)

    def start(self, component: str) -> None:
        """Starts a component as it was started before, unless it runs; does not wait until it is ready.

        In a pod the kubelet does that, and this waits until it has.
        """
        if self._is_in_a_pod(component):
            self._installation.wait_started(component)
        else:
            self._processes.start_again(component)

    def pause(self, component: str) -> None:
        """Stops a component where it stands; raises ComponentError if it does not run."""
        os.kill(self.pid(component), signal.SIGSTOP)

    def resume(self, component: str) -> None:
        """Lets a paused component go on."""
        os.kill(self.pid(component), signal.SIGCONT)

    @contextlib.contextmanager
    def partition(self) -> Iterator[None]:
        """Keeps everything in the cluster's network from the API server meanwhile; the host still reaches it.

        Packets vanish, as on a broken network: nobody is told.
        """
        rule = ("INPUT", "!", "-i", INSIDE, "-p", "tcp", "--dport", str(Ports().apiserver), "-j", "DROP")
        iptables = (*self._network.enter, "iptables", "--wait")
        run([*iptables, "--insert", *rule], seconds=_END_SECONDS)
        try:
            yield
        finally:
            run([*iptables, "--delete", *rule], seconds=_END_SECONDS)

    def alive(self, component: str) -> bool:
        """Says whether a component runs."""
        return self._installation.alive(component) if self._is_in_a_pod(component) else self._processes.alive(component)

    def pid(self, component: str) -> int:
        """Returns the process id of a component that runs."""
        return self._installation.pid(component) if self._is_in_a_pod(component) else self._processes.pid(component)

    def ready(self, component: str) -> bool:
        """Says whether a component answers that it is ready; of those that cannot be asked, whether it runs."""
        for node in self.nodes:
            if component == f"kubelet/{node.name}":
                return node.ready(self.control_plane)
        if component == "kube-apiserver":
            return self.control_plane.ready()
        if self._is_in_a_pod(component):
            return self._installation.ready(component)
        return self.alive(component)

    def log(self, component: str) -> str:
        """Returns what a component printed."""
        if self._is_in_a_pod(component):
            return self._installation.log(component)
        return self._processes.log(component).read_text(errors="replace")

    def node_exec(self, node: str, *command: str) -> str:
        """Runs a command as on that node and returns what it printed; raises CommandError."""
        for candidate in self.nodes:
            if candidate.name == node:
                return candidate.run(*command)
        raise ClusterError(f"There is no node {node}; there are: {', '.join(one.name for one in self.nodes)}.")

    def add_image(self, archive: Path) -> None:
        """Imports an image archive into every node that lacks the image."""
        for node in self.nodes:
            node.add_image(archive)

    @property
    def _state_file(self) -> Path:
        return self.directory / "state.json"

    @property
    def _state(self) -> _State:
        try:
            stored = json.loads(self._state_file.read_text())
        except FileNotFoundError:
            raise ClusterError(f"There is no cluster in {self.directory}; make cluster-up makes one.") from None
        return _State(**{**stored, "size": Size(**stored["size"])})

    @property
    def _network(self) -> Network:
        return Network(self.name, self._state.subnet, self._processes)

    @property
    def _installation(self) -> Installation:
        return Installation(control_plane=self.control_plane, nodes=self.nodes)

    def _is_in_a_pod(self, component: str) -> bool:
        """Says whether the kubelets start a component, not we."""
        return self._state.size.arbiter and self._installation.has(component)

    def _write_state(self, state: _State) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = self._state_file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(asdict(state)))
        unfinished.rename(self._state_file)

    def _is_up(self, size: Size, progress: Progress) -> bool:
        """Says whether nothing is to be done; removes a cluster that cannot be mended."""
        if not self._state_file.exists():
            if self.directory.exists() and any(self.directory.iterdir()):
                raise ClusterError(f"{self.directory} holds files but no cluster; name an empty or new directory.")
            if self.down():
                progress.say("removed what was left of an earlier cluster")
            return False
        if not self._can_be_mended():
            progress.say("an earlier start did not finish, or the machine was restarted: removing what is left")
            self.down()
            return False
        if self._state.size != size:
            raise SizeError(f"This cluster has {self._state.size}; for {size} run make cluster-down first.")
        ended = [name for name in self._processes.names() if not self._processes.alive(name)]
        progress.say(f"already up, {size}" + (f"; starting again: {', '.join(ended)}" if ended else ""))
        changed = size.arbiter and self._state.installed != _installation_content()
        return not ended and not changed

    def _can_be_mended(self) -> bool:
        state = self._state
        return state.complete and self._network.exists() and all(node.exists() for node in self.nodes)

    def _start(self, progress: Progress) -> str | None:
        """Starts all that does not run, in the order of who needs whom, at the same time where nobody does.

        Returns what stands for the installation that was made.
        """
        size = self._state.size
        if not self._network.exists():
            self._network.create(nodes=size.nodes)
        nodes, control_plane = self.nodes, self.control_plane
        archives = self._images(progress)
        with ThreadPoolExecutor() as pool:
            runtimes = [pool.submit(node.start_runtime, archives) for node in nodes]
            control_plane.start()
            self._start_proxy()
            progress.say("control plane up")
            for runtime in runtimes:
                runtime.result()
        for node in nodes:
            self._start_node(node)
        for node in nodes:
            node.wait_ready(control_plane)
            progress.say(f"node {node.name} Ready")
        self._wait_default_account()
        return self._install(progress) if size.arbiter else None

    def _install(self, progress: Progress) -> str:
        content, installation = _installation_content(), self._installation
        installation.install(image.content_tag())
        progress.say("Arbiter installed")
        for node in self.nodes:
            progress.say(f"node {node.name} offers {RESOURCE}: {installation.wait_offered(node)}")
        return content

    def _start_node(self, node: Node) -> None:
        if not node.gpus_file.exists():
            node.gpus_file.parent.mkdir(parents=True, exist_ok=True)
            node.gpus_file.write_text(gpus.render(node.name, gpus.parse(self._state.size.gpus)))
        node.start_kubelet(self.control_plane)

    def _images(self, progress: Progress) -> list[Path]:
        directory = self.directory / "images"
        archives = [
            images.pause(directory),
            images.busybox(directory),
            images.engine_image(directory, _ENGINE_FILES),
        ]
        return [*archives, *arbiter_images(directory, progress)] if self._state.size.arbiter else archives

    def _start_proxy(self) -> None:
        flags = (
            f"--kubeconfig={self.control_plane.kubeconfig('system:kube-proxy')}",
            f"--hostname-override={node_name(0)}",
            "--proxy-mode=iptables",
            f"--cluster-cidr={POD_NETWORK}",
            # The limits of connection tracking are the host's; inside the namespace they cannot be set.
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
        )
        self._processes.start("kube-proxy", (*self._network.enter, str(binaries.directory() / "kube-proxy"), *flags))

    def _wait_default_account(self) -> None:
        """Waits for what every pod needs before it is admitted."""
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        self._processes.wait(
            "kube-controller-manager",
            "service account default",
            lambda: self.control_plane.get(path) is not None,
            seconds=_DEFAULTS_SECONDS,
        )

    def _end_processes(self) -> None:
        deadline = time.monotonic() + _END_SECONDS
        while pids := self._own_processes():
            if time.monotonic() > deadline:
                raise ComponentError(f"Processes {sorted(pids)} did not end within {_END_SECONDS:g} s of SIGKILL.")
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        self._processes.reap()

    def _own_processes(self) -> set[int]:
        """Returns the living processes that this cluster started, their children, and those of its containers."""
        marker = f"{_MARKER}={self.name}".encode()
        found = {pid for pid in cgroups.processes(self.name) if start_time(pid) is not None}
        for path in Path("/proc").glob("[0-9]*/environ"):
            # Processes end while this looks at them.
            with contextlib.suppress(OSError):
                if marker in path.read_bytes().split(b"\0"):
                    found.add(int(path.parent.name))
        return found


def _installation_content() -> str:
    return f"{image.content_tag()} {chart.content()}"
