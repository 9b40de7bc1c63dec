"""Every right that Arbiter's processes were given is used, and none is missing: by the API server's own record."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

import pytest

from hack.cluster.cluster import Cluster
from hack.observe import Observer
from tests.cluster.audit import audited
from tests.cluster.workloads import Workload

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NODES, GPUS = 1, "12Gi"

CHAT = Workload(name="chat", full="10Gi", floor="4Gi")
POSTERS = Workload(name="posters", workload_type="ImageGeneration", priority="Background", full="6Gi", floor="1843Mi")
BIG = Workload(name="big", priority="Critical", full="12Gi", floor="9Gi")

_PROCESSES = {"arbiter-operator": "operator", "arbiter-device-plugin": "device-plugin", "arbiter-scheduler": "extender"}
"""By service account; a role is called as its process."""


class Right(NamedTuple):
    """One verb on one resource, with its subresource."""

    process: str
    verb: str
    group: str
    resource: str


RARE = {
    Right("operator", "patch", "", "events"),  # counts an event up that is told again
    Right("device-plugin", "create", "", "events"),  # names who uses more than it was granted
    Right("device-plugin", "patch", "", "events"),
    Right("device-plugin", "get", "", "pods"),  # one that the kubelet asks about before the watch has shown it
}
"""Rights for what need not happen here."""


def test_rights_are_given_as_they_are_used(cluster: Cluster) -> None:
    live(cluster)
    for component in ("operator", "device-plugin/gpu-1", "extender"):
        cluster.kill(component)
        cluster.start(component)
    observer = Observer(cluster)
    observer.wait("every process to be back", partial(is_ready, cluster), component="operator")

    asked = [*requests(cluster)]
    assert [str(right) for right, status in asked if status == 403] == []
    used = {right for right, status in asked}
    assert granted(cluster) >= RARE
    assert granted(cluster) - used <= RARE


def is_ready(cluster: Cluster) -> bool | None:
    """True once every process says so."""
    return True if all(map(cluster.ready, cluster.components)) else None


def live(cluster: Cluster) -> None:
    """Two share a GPU, and a third, for which there is no room, has one of them evicted."""
    observer = Observer(cluster)

    def runs(workload: Workload) -> bool | None:
        pod = observer.pod(workload.namespace, workload.name)
        return True if pod is not None and pod.phase == "Running" and pod.quality is not None else None

    for workload in (CHAT, POSTERS, BIG):
        cluster.kubectl("apply", "-f", "-", stdin=workload.manifest)
        observer.wait(f"{workload.key} to run", partial(runs, workload), component="operator")
    events = cluster.kubectl("get", "events", "--field-selector=reason=Preempted", "--output=jsonpath={..message}")
    assert "chat was evicted for default/big (Critical), which needs 9Gi on gpu-1/0" in events


def requests(cluster: Cluster) -> Iterator[tuple[Right, int]]:
    """What Arbiter's service accounts asked the API server for, and the status of its answer."""
    for event in audited(cluster):
        reference, account = event["objectRef"], event["user"]["username"].rpartition(":")[2]
        resource = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
        right = Right(_PROCESSES[account], event["verb"], reference.get("apiGroup", ""), resource)
        yield right, event["responseStatus"]["code"]


def granted(cluster: Cluster) -> set[Right]:
    """What the roles of our own let the processes do."""
    roles = json.loads(cluster.kubectl("get", "clusterroles,roles", "--all-namespaces", "--output=json"))["items"]
    ours = {f"arbiter-{process}": process for process in _PROCESSES.values()}
    return {
        Right(ours[role["metadata"]["name"]], verb, group, resource)
        for role in roles
        if role["metadata"]["name"] in ours
        for rule in role["rules"]
        for verb, group, resource in product(rule["verbs"], rule["apiGroups"], rule["resources"])
    }
