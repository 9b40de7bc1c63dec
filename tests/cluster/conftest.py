"""Fixtures of the cluster tests: real clusters with Arbiter, beside whatever else runs on this machine.

Modules whose `NODES` and `GPUS` are the same share a cluster, which each leaves as it found it.
"""

import json
import shutil
import time
from collections.abc import Iterator

import pytest

from hack.cluster.cluster import Cluster
from hack.cluster.errors import ClusterError, CommandError
from hack.cluster.paths import REPOSITORY
from hack.observe import Observer

REMAINS = REPOSITORY / "build" / "cluster-tests"
_INSIST_SECONDS = 240.0
_OF_KUBERNETES = ("default", "arbiter-system", "kube-node-lease", "kube-public", "kube-system")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those with clusters of their own come first, then one size after the other."""
    items.sort(key=_size)


def _size(item: pytest.Item) -> tuple[int, str]:
    module = item.getparent(pytest.Module)
    assert module is not None
    return (getattr(module.obj, "NODES", 0), getattr(module.obj, "GPUS", ""))


class Lifetime:
    """The one cluster that is up at a time."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._running: tuple[int, str, Cluster] | None = None

    def cluster(self, nodes: int, gpus: str) -> Cluster:
        """One of this size."""
        if self._running is None or self._running[:2] != (nodes, gpus):
            self.end()
            cluster = Cluster(self._factory.mktemp("cluster"))
            self._running = (nodes, gpus, cluster)
            cluster.up(nodes=nodes, gpus=gpus)
        return self._running[2]

    def end(self) -> None:
        """Removes it."""
        if self._running is not None:
            self._running[2].down()
            self._running = None


@pytest.fixture(scope="session")
def lifetime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lifetime]:
    """What keeps a cluster up from one module to the next."""
    made = Lifetime(tmp_path_factory)
    yield made
    made.end()


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, lifetime: Lifetime) -> Iterator[Cluster]:
    """A cluster with Arbiter of the size that the module says.

    Where a test of the module fails, the cluster's logs and objects stay in build/cluster-tests, and the next module
    gets a new one.
    """
    failed_before = request.session.testsfailed
    try:
        running = lifetime.cluster(request.module.NODES, request.module.GPUS)
    except ClusterError:
        lifetime.end()
        raise
    yield running
    if request.session.testsfailed > failed_before:
        keep_remains(running, request.module.__name__)
        lifetime.end()
    else:
        clear(running)


def clear(cluster: Cluster) -> None:
    """Removes what a module's tests made, and gives the policy back its default."""
    cluster.kubectl("delete", "deployments,jobs,statefulsets,pods,gpuallocations", "--all", "--timeout=55s")
    listed = json.loads(cluster.kubectl("get", "namespaces", "--output=json"))["items"]
    if made := {one["metadata"]["name"] for one in listed} - set(_OF_KUBERNETES):
        cluster.kubectl("delete", "namespace", *made, "--timeout=55s")
    cluster.kubectl("delete", "qualitypolicies", "--field-selector=metadata.name!=default", "--timeout=20s")
    default = json.dumps([{"op": "replace", "path": "/spec", "value": {"mode": "Adaptive"}}])
    cluster.kubectl("patch", "qualitypolicy", "default", "--type=json", f"--patch={default}")
    wait_until_free(cluster)


def wait_until_free(cluster: Cluster) -> None:
    """Returns once no container is known on any GPU: until then those that left may hold memory, and count."""

    def free() -> bool | None:
        nodes = json.loads(cluster.kubectl("get", "gpunodes", "--output=json"))["items"]
        return None if any(node.get("status", {}).get("grants") for node in nodes) else True

    Observer(cluster).wait("all memory to be free", free, component="operator", seconds=120.0)


def insist(cluster: Cluster, manifests: str) -> None:
    """Applies them, and again while starting containers leave the API server too little time to admit them all."""
    deadline = time.monotonic() + _INSIST_SECONDS
    while True:
        try:
            cluster.kubectl("apply", "-f", "-", stdin=manifests)
        except CommandError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


def keep_remains(cluster: Cluster, name: str) -> None:
    """Copies what tells why a test failed out of the cluster, which is about to be removed."""
    directory = REMAINS / name
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(cluster.directory / "logs", directory / "logs")
    for node in cluster.nodes:
        shutil.copytree(node.pod_logs, directory / "pods" / node.name)
    try:
        objects = cluster.kubectl("get", "pods,gpua,gpun,qpol,events", "--all-namespaces", "--output=yaml")
    except ClusterError as error:
        objects = str(error)
    (directory / "objects.yaml").write_text(objects)
    print(f"logs and objects: {directory}")
