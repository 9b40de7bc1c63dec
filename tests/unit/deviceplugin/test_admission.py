"""What is handed out while the host is in trouble."""

import errno
from pathlib import Path
from typing import cast

import pytest

from arbiter.ids import NodeName
from arbiter_deviceplugin.admission import Admission
from arbiter_deviceplugin.allocations import Allocation, Allocations
from arbiter_deviceplugin.disk import Disk
from arbiter_deviceplugin.kubelet import Kubelet
from arbiter_deviceplugin.pods import NodePods
from arbiter_deviceplugin.slices import SliceId
from arbiter_kube.client import KubeClient

NODE = NodeName("n1")


class FullDisk(Disk):
    """Takes nothing more."""

    def save_allocation(self, _allocation: Allocation) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_no_directory_is_made_of_which_the_disk_does_not_know(tmp_path: Path) -> None:
    allocations = Allocations()
    admission = Admission(
        node=NODE,
        kubelet=Kubelet(tmp_path),
        pods=NodePods(cast("KubeClient", None), node=NODE, unit=1 << 30),
        allocations=allocations,
        disk=FullDisk(tmp_path / "state"),
        run_dir=tmp_path / "run",
    )

    with pytest.raises(OSError, match="No space left"):
        await admission.allocate((SliceId("a::0"),))

    assert not (tmp_path / "run").exists()
    assert len(allocations) == 0
