"""Fixtures of the cluster tests: a real cluster for each module, beside whatever else runs on this machine."""

import shutil
from collections.abc import Iterator

import pytest

from hack.cluster.cluster import Cluster
from hack.cluster.errors import ClusterError
from hack.cluster.paths import REPOSITORY

REMAINS = REPOSITORY / "build" / "cluster-tests"


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with Arbiter of the size that the module's `NODES` and `GPUS` say.

    Where a test of the module fails, the cluster's logs and objects stay in build/cluster-tests.
    """
    failed_before = request.session.testsfailed
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        running.up(nodes=request.module.NODES, gpus=request.module.GPUS)
        yield running
    finally:
        if request.session.testsfailed > failed_before:
            keep_remains(running, request.module.__name__)
        running.down()


def keep_remains(cluster: Cluster, name: str) -> None:
    """Copies what tells why a test failed out of the cluster, which is about to be removed."""
    directory = REMAINS / name
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(cluster.directory / "logs", directory / "logs")
    try:
        objects = cluster.kubectl("get", "pods,gpua,gpun,qpol,events", "--all-namespaces", "--output=yaml")
    except ClusterError as error:
        objects = str(error)
    (directory / "objects.yaml").write_text(objects)
    print(f"logs and objects: {directory}")
