import json
import time

import pytest

from hack.cluster.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NODES, GPUS = 2, "12Gi,24Gi"
RESTART_SECONDS = 120.0


def test_each_node_offers_the_memory_of_its_gpus(cluster: Cluster) -> None:
    nodes = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
    offered = {node["metadata"]["name"]: node["status"]["allocatable"]["arbiter.infernum.io/vram"] for node in nodes}
    assert offered == {"gpu-1": "36", "gpu-2": "36"}


@pytest.mark.parametrize(
    "component", ["operator", "extender", "arbiter-scheduler", "device-plugin/gpu-1", "kubelet/gpu-2", "kube-apiserver"]
)
def test_a_killed_component_is_ready_again_after_its_start(cluster: Cluster, component: str) -> None:
    cluster.kill(component)
    assert not cluster.ready(component)
    cluster.start(component)
    wait_ready(cluster, component)


def test_every_component_gets_ready_again_after_all_of_that(cluster: Cluster) -> None:
    for component in cluster.components:
        wait_ready(cluster, component)


def wait_ready(cluster: Cluster, component: str) -> None:
    """Returns once it says that it is ready."""
    deadline = time.monotonic() + RESTART_SECONDS
    while not cluster.ready(component):
        assert time.monotonic() < deadline, f"{component} is not ready: {cluster.log(component)[-2000:]}"
        time.sleep(0.1)
