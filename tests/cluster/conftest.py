"""Fixtures of the cluster tests: a real cluster of their own, beside whatever else runs on this machine."""

from collections.abc import Iterator

import pytest

from hack.cluster.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with two simulated GPUs each, and Arbiter."""
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        running.up(nodes=2, gpus="12Gi,24Gi")
        yield running
    finally:
        running.down()
