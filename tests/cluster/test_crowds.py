"""Many pods at once on a real node, and a kubelet that restarts in the middle of what it does."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.cluster.cluster import Cluster
from hack.cluster.errors import CommandError
from hack.observe import Observer, PodView
from tests.cluster.conftest import insist, wait_until_free
from tests.cluster.workloads import Workload, as_yaml

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

NODES, GPUS = 1, "40Gi,48Gi"
NODE = "gpu-1"
CROWD = 40
PATIENCE = 180.0
BEFORE_THE_RESTART = 5


@pytest.fixture
def quiet(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with nothing on its GPUs."""
    yield cluster
    cluster.kubectl("delete", "gpuallocations,pods", "--all", "--timeout=120s")
    wait_until_free(cluster)


def grants(cluster: Cluster) -> list[dict[str, Any]]:
    """What GpuNode says of its containers."""
    found: list[dict[str, Any]] = gpu_node(cluster).get("grants", [])
    return found


def gpu_node(cluster: Cluster) -> dict[str, Any]:
    """The status of the node's GpuNode."""
    status: dict[str, Any] = json.loads(cluster.kubectl("get", "gpun", NODE, "--output=json"))["status"]
    return status


def a_crowd() -> list[Workload]:
    return [Workload(name=f"pod-{number}", full="2Gi", floor="1Gi") for number in range(CROWD)]


def create(cluster: Cluster, crowd: list[Workload]) -> float:
    """Creates all of them; when their pods were asked for."""
    cluster.kubectl("apply", "-f", "-", stdin=as_yaml(*(workload.allocation for workload in crowd)))
    began = time.monotonic()
    insist(cluster, as_yaml(*(workload.pod for workload in crowd)))
    return began


def running(observer: Observer, count: int) -> list[PodView]:
    """Those that run, once they are so many."""

    def read() -> list[PodView] | None:
        found = [pod for pod in observer.pods("default") if pod.phase == "Running"]
        return found if len(found) >= count else None

    return observer.wait(f"{count} running pods", read, component=f"kubelet/{NODE}", seconds=PATIENCE)


def test_forty_pods_that_are_created_at_once_run_soon(quiet: Cluster) -> None:
    began = create(quiet, a_crowd())
    running(Observer(quiet), CROWD)
    print(f"{CROWD} pods created at once all ran after {time.monotonic() - began:.1f} s")


def test_a_restart_of_the_kubelet_in_the_middle_costs_none_of_forty_pods(quiet: Cluster) -> None:
    observer = Observer(quiet)
    began = create(quiet, a_crowd())
    before = {pod.name for pod in running(observer, BEFORE_THE_RESTART)}
    quiet.kill(f"kubelet/{NODE}")
    quiet.start(f"kubelet/{NODE}")
    running(observer, CROWD)
    print(f"{CROWD} pods all ran after {time.monotonic() - began:.1f} s, a restart of the kubelet in the middle")

    pods = json.loads(quiet.kubectl("get", "pods", "--output=json"))["items"]
    restarts = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}
    assert len(restarts) == CROWD
    # One that was just being created may be created anew: that is the kubelet's way.
    assert {name: restarts[name] for name in before} == dict.fromkeys(before, 0)


def test_a_pod_stays_on_its_gpu_when_a_restarted_kubelet_still_counts_one_deleted_by_force(quiet: Cluster) -> None:
    observer = Observer(quiet)
    former = Workload(name="former", full="38Gi", floor="38Gi")
    neighbour = Workload(name="neighbour", full="48Gi", floor="8Gi", minimum=0.4)
    chat = Workload(name="chat", full="10Gi", floor="4Gi")
    for workload in (former, neighbour):
        quiet.kubectl("apply", "-f", "-", stdin=workload.manifest)
        told(observer, workload)
    left = view(observer, former)

    quiet.kill(f"kubelet/{NODE}")
    uid = json.loads(quiet.kubectl("get", "pod", former.name, "--output=json"))["metadata"]["uid"]
    quiet.kubectl("delete", "pod", former.name, "--force", "--grace-period=0", "--wait=false")
    end_processes(uid)
    observer.wait(
        "the former pod's memory to be free",
        lambda: True if uid not in {grant["podUID"] for grant in grants(quiet)} else None,
        component=f"device-plugin/{NODE}",
    )
    quiet.kubectl("apply", "-f", "-", stdin=chat.manifest)
    bound = observer.wait(
        "the next pod to be bound",
        lambda: pod if (pod := observer.pod("default", chat.name)) and pod.gpus else None,
        component="arbiter-scheduler",
    )
    assert bound.gpus == left.gpus
    quiet.start(f"kubelet/{NODE}")

    assert told(observer, chat) == (left.gpus, 10 << 30)
    assert told(observer, neighbour)[1] == 48 << 30
    print(f"slices: {slices(quiet, chat.name)}")


def test_a_container_cannot_write_what_it_is_told(quiet: Cluster) -> None:
    chat = Workload(name="chat", full="10Gi", floor="4Gi")
    quiet.kubectl("apply", "-f", "-", stdin=chat.manifest)
    told(Observer(quiet), chat)
    for path in ("/run/arbiter/more", "/run/arbiter/quality.json", "/run/arbiter/bin/arbiter-run"):
        with pytest.raises(CommandError, match="Read-only file system"):
            quiet.kubectl("exec", chat.name, "--", "sh", "-c", f"echo 1 > {path}")


def view(observer: Observer, workload: Workload) -> PodView:
    found = observer.pod(workload.namespace, workload.name)
    assert found is not None
    return found


def told(observer: Observer, workload: Workload) -> tuple[tuple[str, ...], int]:
    """GPUs and bytes in the container's file, once it is there and all that it asks for."""

    def read() -> tuple[tuple[str, ...], int] | None:
        pod = observer.pod(workload.namespace, workload.name)
        file = observer.file(pod) if pod is not None and pod.phase == "Running" else None
        return (file.gpus, file.vram) if file is not None and file.quality == 1.0 else None

    return observer.wait(f"{workload.key} at full quality", read, component=f"device-plugin/{NODE}")


def end_processes(uid: str) -> None:
    """Ends whatever runs in a pod of this test, its sandbox included."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"pod{uid}" in (process / "cgroup").read_text():
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked


def slices(cluster: Cluster, pod: str) -> dict[str, int]:
    """Slices that the kubelet gave to a pod, by GPU."""
    return {count["gpu"]: count["slices"] for count in gpu_node(cluster).get("slices", []) if count["pod"] == pod}
