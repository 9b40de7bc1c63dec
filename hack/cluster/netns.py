"""The cluster's network namespace: one for all of its nodes, joined to the host by a pair of virtual interfaces.

Names and addresses follow from the cluster's identity, so that clusters beside one another never meet. A sleeping
process holds the namespace: unlike `ip netns` that leaves no mount behind.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.command import run
from hack.cluster.errors import CannotRunError, CommandError
from hack.cluster.process import Processes

NODES_MAXIMUM = 200
_HOLDER = "namespace/network"
INSIDE = "eth0"  # leads to the host
_CONTROL_PLANE_HOST, _FIRST_NODE_HOST = 2, 10
_SECONDS = 20.0


@dataclass(frozen=True)
class Network:
    """A network namespace with the addresses 10.201.`subnet`.0/24; `name` is its interface on the host."""

    name: str
    subnet: int
    processes: Processes

    @property
    def control_plane(self) -> str:
        """The address of the API server, reachable from the host too."""
        return self._address(_CONTROL_PLANE_HOST)

    @property
    def enter(self) -> tuple[str, ...]:
        """The command prefix that runs a program inside."""
        return ("nsenter", f"--net=/proc/{self.processes.pid(_HOLDER)}/ns/net")

    def node(self, index: int) -> str:
        """Returns the address of node number `index`, counted from 0."""
        return self._address(_FIRST_NODE_HOST + index)

    def exists(self) -> bool:
        """Says whether the namespace is there."""
        return self.processes.alive(_HOLDER)

    def create(self, *, nodes: int) -> None:
        """Makes the namespace with an address for the control plane and for each node."""
        self.processes.start(_HOLDER, ("unshare", "--net", "sleep", "infinity"))
        own = Path("/proc/self/ns/net").readlink()
        holder = Path(f"/proc/{self.processes.pid(_HOLDER)}/ns/net")
        self.processes.wait(_HOLDER, "network namespace", lambda: holder.readlink() != own, seconds=_SECONDS)
        _ip("link", "add", self.name, "type", "veth", "peer", INSIDE, "netns", str(self.processes.pid(_HOLDER)))
        _ip("address", "add", f"{self._address(1)}/24", "dev", self.name)
        _ip("link", "set", self.name, "up")
        for address in (self.control_plane, *map(self.node, range(nodes))):
            self._inside("address", "add", f"{address}/24", "dev", INSIDE)
        for interface in ("lo", INSIDE):
            self._inside("link", "set", interface, "up")
        # The API server and kube-proxy look for a default route to know their own address.
        self._inside("route", "add", "default", "via", self._address(1))
        run([*self.enter, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], seconds=_SECONDS)

    def _inside(self, *arguments: str) -> None:
        run([*self.enter, "ip", *arguments], seconds=_SECONDS)

    def _address(self, host: int) -> str:
        return f"10.201.{self.subnet}.{host}"


def choose_subnet(seed: int) -> int:
    """Returns a subnet that this machine has no address in, the same for the same seed while it is free."""
    taken = run(["ip", "-4", "-oneline", "address"], seconds=_SECONDS)
    for offset in range(256):
        subnet = (seed + offset) % 256
        if f" 10.201.{subnet}." not in taken:
            return subnet
    raise CannotRunError("All networks 10.201.0.0/24 to 10.201.255.0/24 are in use on this machine.")


def remove_interface(name: str) -> None:
    """Removes a cluster's interface on the host, if it is there."""
    if Path("/sys/class/net", name).exists():
        # The kernel may be removing it at the same time, with the namespace.
        with contextlib.suppress(CommandError):
            _ip("link", "delete", name)


def _ip(*arguments: str) -> None:
    run(["ip", *arguments], seconds=_SECONDS)
