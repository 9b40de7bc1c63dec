"""What is handed out while the host is in trouble."""

import errno
import time
from pathlib import Path
from typing import cast

import pytest

from arbiter.ids import NodeName
from arbiter_deviceplugin.admission import Admission
from arbiter_deviceplugin.allocations import Allocation, Allocations
from arbiter_deviceplugin.clock import Clock
from arbiter_deviceplugin.disk import Disk
from arbiter_deviceplugin.kubelet import Kubelet
from arbiter_deviceplugin.pods import NodePods
from arbiter_deviceplugin.slices import SliceId
from arbiter_kube.client import KubeClient

NODE = NodeName("n1")
SLICES = (SliceId("a::0"),)


class FullDisk(Disk):
    """Takes nothing more."""

    def save_allocation(self, _allocation: Allocation) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def admission(root: Path, disk: Disk, allocations: Allocations) -> Admission:
    return Admission(
        node=NODE,
        kubelet=Kubelet(root),
        pods=NodePods(cast("KubeClient", None), node=NODE, unit=1 << 30),
        allocations=allocations,
        disk=disk,
        clock=Clock(),
        run_dir=root / "run",
    )


async def test_no_directory_is_made_of_which_the_disk_does_not_know(tmp_path: Path) -> None:
    allocations = Allocations()

    with pytest.raises(OSError, match="No space left"):
        await admission(tmp_path, FullDisk(tmp_path / "state"), allocations).allocate(SLICES)

    assert not (tmp_path / "run").exists()
    assert len(allocations) == 0


async def test_slices_belong_to_whom_they_were_given_last_though_somebody_put_the_clock_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocations = Allocations()
    admission_ = admission(tmp_path, Disk(tmp_path / "state"), allocations)
    await admission_.allocate(SLICES)
    an_hour_ago = time.time() - 3600.0
    monkeypatch.setattr(time, "time", lambda: an_hour_ago)

    last = await admission_.allocate(SLICES)

    found = allocations.of_slices(frozenset(SLICES))
    assert found is not None
    assert found.directory == last.path.name
