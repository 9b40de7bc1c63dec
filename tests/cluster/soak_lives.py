"""Thousands of containers on a real node, one after another (`make soak`): none leaves anything behind."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from hack.cluster.cluster import Cluster
from hack.observe import Observer
from tests.cluster.conftest import insist
from tests.cluster.workloads import Workload, as_yaml
from tests.component.deviceplugin.support import Footprint, footprint_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

NODES, GPUS = 1, "40Gi,40Gi"
NODE = "gpu-1"
LIVES = int(os.environ.get("SOAK_LIVES", "2000"))
WAVE = 20
PATIENCE = 120.0


def test_containers_leave_nothing_behind(cluster: Cluster) -> None:
    allocation = Workload(name="job", full="3Gi", floor="2Gi")
    cluster.kubectl("apply", "-f", "-", stdin=as_yaml(allocation.allocation))
    observer = Observer(cluster)
    footprints: list[Footprint] = []
    began = time.monotonic()
    for wave in range(LIVES // WAVE):
        pods = [a_pod(f"job-{wave}-{number}") for number in range(WAVE)]
        insist(cluster, as_yaml(*pods))
        observer.wait("the wave to end", lambda: ended(cluster), component=f"kubelet/{NODE}", seconds=PATIENCE)
        cluster.kubectl("delete", "pods", "--all", "--wait=false")
        if wave in (1, LIVES // WAVE // 2, LIVES // WAVE - 1):
            footprints.append(footprint_of(cluster.pid(f"device-plugin/{NODE}")))
    print(f"{LIVES} containers in {time.monotonic() - began:.0f} s; {' -> '.join(map(str, footprints))}")

    component = f"device-plugin/{NODE}"
    observer.wait("nothing to be left", lambda: True if not left(cluster) else None, component=component, seconds=180)
    # By half of them pools of threads and the allocator's arenas are as large as they become.
    _, middle, last = footprints
    assert last.descriptors <= middle.descriptors + WAVE
    assert last.threads <= middle.threads + 2
    assert last.resident <= middle.resident * 1.05


def a_pod(name: str) -> dict[str, Any]:
    """A container that reads its target, acknowledges it and is done."""
    pod = Workload(name=name, run_seconds=0.2, apply_seconds=0.0).pod
    pod["metadata"]["annotations"] = {"arbiter.infernum.io/allocation": "job"}
    return pod


def ended(cluster: Cluster) -> bool | None:
    """Whether every pod has succeeded; one that failed is nobody's right."""
    pods = json.loads(cluster.kubectl("get", "pods", "--output=json"))["items"]
    living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    failed = [pod["metadata"]["name"] for pod in living if pod["status"]["phase"] == "Failed"]
    assert failed == []
    return True if living and all(pod["status"]["phase"] == "Succeeded" for pod in living) else None


def left(cluster: Cluster) -> dict[str, int]:
    """What there is of containers that are gone, counted by what it is."""
    (root,) = (node.directory / "root" for node in cluster.nodes)
    status = json.loads(cluster.kubectl("get", "gpun", NODE, "--output=json"))["status"]
    counts = {
        "grants": len(status.get("grants", [])),
        "slices": len(status.get("slices", [])),
        "directories and sockets": entries(root / "run" / "arbiter" / "containers"),
        "records": entries(root / "var" / "lib" / "arbiter" / "records"),
        "allocations": entries(root / "var" / "lib" / "arbiter" / "allocations"),
    }
    return {what: count for what, count in counts.items() if count}


def entries(directory: Path) -> int:
    return len(list(directory.iterdir()))
