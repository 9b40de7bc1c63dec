"""etcd and kube-apiserver, with controller manager and scheduler where wanted.

On its own it listens on loopback, for tests that need a real API server and nothing else; a cluster runs it inside
its network namespace. Imports `binaries`, `kubeconfig`, `pki`, `probe` and `process`.
"""

import enum
import http.client
import json
import random
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hack.cluster import binaries, kubeconfig, probe
from hack.cluster.command import NO_PROXY, run
from hack.cluster.errors import CommandError
from hack.cluster.pki import Authority, KeyPair
from hack.cluster.process import Processes

POD_NETWORK = "10.244.0.0/16"
_SERVICE_NETWORK = "10.96.0.0/16"
_SERVICE_ADDRESS = "10.96.0.1"
_ADMIN_GROUPS = ("system:masters",)
_READY_SECONDS = 120.0
_KUBECTL_SECONDS = 120.0
_TOKEN_SECONDS = 1000 * 3600
_LOOPBACK = "127.0.0.1"
# Below the range that the kernel hands out to outgoing connections, which would take a port between choice and use.
_FREE_PORTS = range(20000, 32000)


class Component(enum.Enum):
    """What may run beside etcd and the API server, by the name of its binary."""

    CONTROLLER_MANAGER = "kube-controller-manager"
    SCHEDULER = "kube-scheduler"


@dataclass(frozen=True)
class Ports:
    """The TCP ports of a control plane."""

    apiserver: int = 6443
    etcd: int = 2379
    etcd_peer: int = 2380
    controller_manager: int = 10257
    scheduler: int = 10259


@dataclass(frozen=True)
class Place:
    """Where a control plane runs: its address and ports, and the command prefix that enters its network."""

    address: str
    ports: Ports
    enter: tuple[str, ...] = ()


def loopback() -> Place:
    """Returns a place on loopback with free ports."""
    ports = _free_ports(5)
    return Place(_LOOPBACK, Ports(*ports))


_AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: Metadata, userGroups: ["system:serviceaccounts:arbiter-system"]}
- {level: None}
"""


class ControlPlane:
    """A control plane whose keys, data, records and logs are in `directory`.

    Without the controller manager nobody makes service accounts, so pods are then admitted without one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        components: frozenset[Component] = frozenset(),
        place: Place | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.directory = directory
        self.authority = Authority(directory / "pki")
        self.place = place or loopback()
        # A test run that is killed must not leave an API server behind.
        self.processes = processes or Processes(directory, die_with_parent=True)
        self._components = components

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.place.address}:{self.place.ports.apiserver}"

    @property
    def admin_kubeconfig(self) -> Path:
        """The kubeconfig of the cluster's administrator (group system:masters)."""
        return self.directory / "kubeconfig"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts what does not run yet and returns when the API server answers; builds missing binaries first.

        Raises:
            ComponentError: one ended or was not ready in time.
        """
        binaries.ensure([*binaries.CONTROL_PLANE, *(component.value for component in self._components)])
        self._write_kubeconfig(self.admin_kubeconfig, "admin", _ADMIN_GROUPS)
        self._run("etcd", *self._etcd_flags())
        self.start_apiserver()
        if Component.CONTROLLER_MANAGER in self._components:
            self._run("kube-controller-manager", *self._controller_manager_flags())
        if Component.SCHEDULER in self._components:
            self._run("kube-scheduler", *self._scheduler_flags())

    def stop(self) -> None:
        """Ends everything; the data stay, and `start` continues with them."""
        for name in ("kube-scheduler", "kube-controller-manager"):
            self.processes.stop(name)
        self.stop_apiserver()
        self.processes.stop("etcd")

    def start_apiserver(self) -> None:
        """Starts the API server on its former port and waits until it is ready."""
        self._run("kube-apiserver", *self._apiserver_flags())
        self.processes.wait("kube-apiserver", "answer to /readyz", self.ready, seconds=_READY_SECONDS)

    def stop_apiserver(self) -> None:
        """Ends the API server at once, as a crash would."""
        self.processes.kill("kube-apiserver")

    @property
    def audit_log(self) -> Path:
        """What Arbiter's service accounts asked the API server for: an event in JSON on each line."""
        return self.directory / "logs" / "audit.log"

    def ready(self) -> bool:
        """Says whether the API server answers and has made its first namespaces."""
        # The namespaces come only after it says that it is ready.
        paths = ("/readyz", "/api/v1/namespaces/default", "/api/v1/namespaces/kube-system")
        return all(self.get(path) is not None for path in paths)

    def kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Writes and returns the kubeconfig of a user that a client certificate names."""
        return self._write_kubeconfig(self.directory / "kubeconfigs" / _file_name(user, *groups), user, groups)

    def service_account_kubeconfig(self, namespace: str, name: str, *, node: str | None = None) -> Path:
        """Writes and returns the kubeconfig of an existing service account, with a token that lasts for weeks.

        With `node` the token carries that node's name in its claims, as a pod's on that node would.
        """
        spec: dict[str, object] = {"audiences": [], "expirationSeconds": _TOKEN_SECONDS}
        if node is not None:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Node", "name": node}
        answer = self._post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", {"spec": spec})
        text = kubeconfig.render(
            server=self.server,
            authority=self.authority.certificate,
            credential=kubeconfig.Token(answer["status"]["token"]),
            namespace=namespace,
        )
        file_name = _file_name("token", namespace, name, *filter(None, [node]))
        return kubeconfig.write(self.directory / "kubeconfigs" / file_name, text)

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """Runs kubectl, as the administrator unless another kubeconfig is given, and returns what it printed.

        Raises:
            CommandError: its exit status was not 0; the message has what it wrote to stderr.
        """
        environment = {
            "KUBECONFIG": str(kubeconfig or self.admin_kubeconfig),
            # The discovery cache in the home directory may know this address with other resources.
            "KUBECACHEDIR": str(self.directory / "kubectl-cache"),
            **NO_PROXY,
        }
        command = [str(binaries.directory() / "kubectl"), *arguments]
        return run(command, seconds=_KUBECTL_SECONDS, stdin=stdin, environment=environment)

    def get(self, path: str) -> bytes | None:
        """Returns what the API server answers the administrator, None unless with status 200: kubectl, but quick."""
        tls = self.authority.client_context(self._user("admin", _ADMIN_GROUPS))
        return probe.get(self.place.address, self.place.ports.apiserver, path, tls=tls)

    def _post(self, path: str, body: object) -> Any:
        """What the API server answers an administrator who makes something: kubectl, but quick."""
        tls = self.authority.client_context(self._user("admin", _ADMIN_GROUPS))
        connection = http.client.HTTPSConnection(
            self.place.address, self.place.ports.apiserver, timeout=_KUBECTL_SECONDS, context=tls
        )
        with closing(connection):
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode()
        if response.status != HTTPStatus.CREATED:
            raise CommandError(f"POST {path}: {text}")
        return json.loads(text)

    def _run(self, name: str, *flags: str) -> None:
        self.processes.start(name, (*self.place.enter, str(binaries.directory() / name), *flags))

    def _write_kubeconfig(self, path: Path, user: str, groups: Sequence[str]) -> Path:
        pair = self._user(user, groups)
        certificate = kubeconfig.ClientCertificate(pair.certificate.read_bytes(), pair.key.read_bytes())
        text = kubeconfig.render(server=self.server, authority=self.authority.certificate, credential=certificate)
        return kubeconfig.write(path, text)

    def _user(self, user: str, groups: Sequence[str]) -> KeyPair:
        return self.authority.issue(f"user+{_file_name(user, *groups)}", common_name=user, organizations=groups)

    def _etcd_flags(self) -> tuple[str, ...]:
        client = f"http://{_LOOPBACK}:{self.place.ports.etcd}"
        peer = f"http://{_LOOPBACK}:{self.place.ports.etcd_peer}"
        return (
            f"--data-dir={self.directory / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
        )

    def _apiserver_flags(self) -> tuple[str, ...]:
        address = self.place.address
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        hosts = (*names, "localhost", _LOOPBACK, _SERVICE_ADDRESS, address)
        authority = self.authority.pair.certificate
        serving = self.authority.issue("kube-apiserver", common_name="kube-apiserver", hosts=hosts)
        kubelet_client = self.authority.issue(
            "kube-apiserver-kubelet-client",
            common_name="kube-apiserver-kubelet-client",
            organizations=_ADMIN_GROUPS,
        )
        service_accounts = self.authority.signing_key("service-accounts")
        return (
            f"--etcd-servers=http://{_LOOPBACK}:{self.place.ports.etcd}",
            f"--bind-address={address}",
            f"--secure-port={self.place.ports.apiserver}",
            # A loopback address is none that the Service `kubernetes` could lead to.
            f"--endpoint-reconciler-type={'none' if address == _LOOPBACK else 'lease'}",
            f"--service-cluster-ip-range={_SERVICE_NETWORK}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={authority}",
            "--authorization-mode=Node,RBAC",
            f"--audit-policy-file={self._audit_policy()}",
            f"--audit-log-path={self.audit_log}",
            "--allow-privileged=true",
            *self._admission_flags(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={service_accounts.certificate}",
            f"--service-account-signing-key-file={service_accounts.key}",
            f"--kubelet-client-certificate={kubelet_client.certificate}",
            f"--kubelet-client-key={kubelet_client.key}",
            f"--kubelet-certificate-authority={authority}",
            "--kubelet-preferred-address-types=InternalIP",
            # Without these, scheduler and controller manager complain every 10 s that they are not configured.
            f"--requestheader-client-ca-file={authority}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        )

    def _audit_policy(self) -> Path:
        path = self.directory / "audit-policy.yaml"
        path.write_text(_AUDIT_POLICY)
        return path

    def _admission_flags(self) -> tuple[str, ...]:
        enabled = "--enable-admission-plugins=NodeRestriction"
        if Component.CONTROLLER_MANAGER in self._components:
            return (enabled,)
        return (enabled, "--disable-admission-plugins=ServiceAccount")

    def _controller_manager_flags(self) -> tuple[str, ...]:
        authority = self.authority.pair
        return (
            *self._own_kubeconfig_flags("system:kube-controller-manager"),
            *self._serving_flags(self.place.ports.controller_manager),
            f"--root-ca-file={authority.certificate}",
            f"--cluster-signing-cert-file={authority.certificate}",
            f"--cluster-signing-key-file={authority.key}",
            f"--service-account-private-key-file={self.authority.signing_key('service-accounts').key}",
            "--use-service-account-credentials=true",
            # It makes this directory, whose default is outside of what belongs to the cluster.
            f"--flex-volume-plugin-dir={self.directory / 'volume-plugins'}",
            f"--cluster-cidr={POD_NETWORK}",
            "--leader-elect=false",
            "--kube-api-qps=300",
            "--kube-api-burst=600",
        )

    def _scheduler_flags(self) -> tuple[str, ...]:
        return (
            *self._own_kubeconfig_flags("system:kube-scheduler"),
            *self._serving_flags(self.place.ports.scheduler),
            "--leader-elect=false",
        )

    def _own_kubeconfig_flags(self, user: str) -> tuple[str, ...]:
        path = self.kubeconfig(user)
        return (f"--kubeconfig={path}", f"--authentication-kubeconfig={path}", f"--authorization-kubeconfig={path}")

    def _serving_flags(self, port: int) -> tuple[str, ...]:
        pair = self.authority.issue("localhost", common_name="localhost", hosts=("localhost", _LOOPBACK))
        return (
            f"--bind-address={_LOOPBACK}",
            f"--secure-port={port}",
            f"--tls-cert-file={pair.certificate}",
            f"--tls-private-key-file={pair.key}",
        )


def _file_name(*parts: str) -> str:
    # The variable KUBECONFIG separates several files with colons.
    return "+".join(parts).replace(":", "-").replace("/", "-")


def _free_ports(count: int) -> list[int]:
    """Returns different ports of loopback that nobody listens on."""
    free: list[int] = []
    for port in random.sample(_FREE_PORTS, len(_FREE_PORTS)):
        with socket.socket() as probe_socket:
            if probe_socket.connect_ex((_LOOPBACK, port)) != 0:
                free.append(port)
        if len(free) == count:
            return free
    raise CommandError(f"No {count} free ports between {_FREE_PORTS.start} and {_FREE_PORTS.stop} on loopback.")
