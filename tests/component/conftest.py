"""Fixtures of the component tests: one real etcd and API server for each test process, on loopback."""

from collections.abc import Iterator

import pytest

from hack.cluster.controlplane import ControlPlane
from tests.support import program

program.preload("arbiter_deviceplugin.main", "arbiter_extender.main")  # of which most are started


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver without controllers: objects stay as they are written. One per pytest-xdist worker."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        yield running
