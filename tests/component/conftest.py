"""Fixtures of the component tests: one real etcd and API server for each test process, on loopback."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from xdist.scheduler import LoadScopeScheduling

from hack.cluster.controlplane import ControlPlane
from tests.support import program

# An API server that lives for a minute spends a third of its CPU on collecting garbage.
os.environ["GOGC"] = "400"

program.preload("arbiter_deviceplugin.main", "arbiter_extender.main", "arbiter_operator.main")  # all that tests start

WORKERS = {"deviceplugin": 3}
"""How many of pytest-xdist's workers may share the tests of a directory, where that is not one."""

LONGEST = ("operator", "extender", "kube", "deviceplugin", "monitoring")
"""The directories whose tests begin first, so that no worker is left with a long one at the end."""


class ByDirectory(LoadScopeScheduling):
    """Brings the tests of a directory together, so that what they share is started once and not in every worker.

    Not `--dist loadgroup`: pytest-xdist 3.8 tells its groups by a suffix to a test's id, which pytest 9.2 leaves out.
    """

    def _split_scope(self, nodeid: str) -> str:
        directory = Path(nodeid.partition("::")[0]).parent.name
        return f"{directory}-{crc32(nodeid.encode()) % WORKERS.get(directory, 1)}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    turns = {directory: turn for turn, directory in enumerate(LONGEST)}
    items.sort(key=lambda item: turns.get(item.path.parent.name, len(turns)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # it would begin with the most tests, which are not the longest
    return ByDirectory(config, log)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver without controllers: objects stay as they are written. One per pytest-xdist worker."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        yield running
