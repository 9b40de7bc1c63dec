"""Fixtures of the cluster tests: a real cluster for each module, beside whatever else runs on this machine."""

from collections.abc import Iterator

import pytest

from hack.cluster.cluster import Cluster


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with Arbiter of the size that the module's `NODES` and `GPUS` say."""
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        running.up(nodes=request.module.NODES, gpus=request.module.GPUS)
        yield running
    finally:
        running.down()
