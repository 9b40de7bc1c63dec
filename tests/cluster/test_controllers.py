"""Whoever makes pods: Deployments with surge, StatefulSets, Jobs and DaemonSets share a GPU as bare pods do."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml

from hack.cluster.cluster import Cluster
from hack.cluster.errors import CommandError
from hack.observe import Observer
from tests.cluster.workloads import Workload, as_yaml

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

NODES, GPUS = 1, "12Gi"
CHAT = Workload(name="chat", full="10Gi", floor="4Gi")
PATIENCE = 90.0


@pytest.fixture
def observer(cluster: Cluster) -> Iterator[Observer]:
    """The cluster with chat's allocation, and afterwards with nothing of its pods."""
    cluster.kubectl("apply", "-f", "-", stdin=as_yaml(CHAT.allocation))
    observer = Observer(cluster)
    yield observer
    kinds = "deployments,statefulsets,daemonsets,jobs,resourcequotas,gpuallocations"
    cluster.kubectl("delete", kinds, "--all", "--namespace=default", "--timeout=90s")
    observer.wait("an empty node", lambda: True if not observer.pods("default") else None, component="kubelet/gpu-1")


def made_by(kind: str, workload: Workload = CHAT, *, api: str = "apps/v1", **spec: Any) -> str:
    """A controller called chat, whose pods are the workload's."""
    pod = workload.pod
    metadata = {"labels": {"app": "chat"}, "annotations": pod["metadata"]["annotations"]}
    selector = {} if kind == "Job" else {"selector": {"matchLabels": {"app": "chat"}}}
    body = {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": "chat", "namespace": "default"},
        "spec": {"template": {"metadata": metadata, "spec": pod["spec"]}, **selector, **spec},
    }
    return as_yaml(body)


def qualities(observer: Observer) -> list[float | None]:
    return [pod.quality for pod in observer.pods("default") if pod.phase == "Running"]


def at(observer: Observer, *wanted: float) -> None:
    """Returns once just so many pods run, at these qualities."""
    observer.wait(
        f"pods at {wanted}",
        lambda: True if qualities(observer) == [*wanted] else None,
        component="operator",
        seconds=PATIENCE,
    )


def status(cluster: Cluster) -> dict[str, Any]:
    """The allocation's, as the API server has it."""
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "gpua", "chat", "--output=json"))["status"]
    return found


def grants(cluster: Cluster) -> dict[str, str]:
    """The pods of the allocation's status and their UIDs."""
    return {grant["pod"]: grant["podUID"] for grant in status(cluster)["grants"]}


def says(cluster: Cluster, observer: Observer, **columns: Any) -> None:
    """Returns once the allocation's status has these values."""
    observer.wait(
        f"status {columns}",
        lambda: True if {name: status(cluster).get(name) for name in columns} == columns else None,
        component="operator",
    )


def test_a_rolling_update_with_surge_shares_the_gpu_meanwhile(cluster: Cluster, observer: Observer) -> None:
    rolling: dict[str, Any] = {
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "minReadySeconds": 5,
    }
    cluster.kubectl("apply", "-f", "-", stdin=made_by("Deployment", replicas=1, **rolling))
    at(observer, 1.0)
    [before] = observer.pods("default")

    cluster.kubectl("rollout", "restart", "deployment/chat")
    at(observer, 0.6, 0.6)
    cluster.kubectl("rollout", "status", "deployment/chat", "--timeout=60s")
    at(observer, 1.0)

    [after] = observer.pods("default")
    assert after.name != before.name
    says(cluster, observer, pods="1/1", phase="Running", quality=1)


def test_a_pod_of_a_statefulset_comes_back_under_its_name_with_a_grant_of_its_own(
    cluster: Cluster, observer: Observer
) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=made_by("StatefulSet", replicas=2, serviceName="chat"))
    at(observer, 0.6, 0.6)
    says(cluster, observer, pods="2/2", phase="Reduced", quality=0.6)
    before = grants(cluster)

    cluster.kubectl("delete", "pod", "chat-0", "--timeout=60s")
    at(observer, 0.6, 0.6)
    after = observer.wait(
        "a grant of the pod that came back",
        lambda: found if (found := grants(cluster)).get("chat-0", before["chat-0"]) != before["chat-0"] else None,
        component="operator",
    )

    assert before.keys() == after.keys() == {"chat-0", "chat-1"}
    assert before["chat-1"] == after["chat-1"]
    says(cluster, observer, pods="2/2", phase="Reduced", quality=0.6)


def test_a_job_that_has_finished_gives_its_memory_back(cluster: Cluster, observer: Observer) -> None:
    brief = replace(CHAT, run_seconds=8.0)
    cluster.kubectl("apply", "-f", "-", stdin=made_by("Job", brief, api="batch/v1", completions=2, parallelism=2))
    at(observer, 0.6, 0.6)

    cluster.kubectl("wait", "--for=condition=Complete", "job/chat", "--timeout=60s")
    says(cluster, observer, pods="0/0", phase="Pending")

    assert {pod.phase for pod in observer.pods("default")} == {"Succeeded"}
    observer.wait(
        "all memory to be free",
        lambda: True if not any(gpu.granted for gpu in observer.gpus()) else None,
        component="device-plugin/gpu-1",
    )


def test_a_daemonset_puts_one_on_each_node(cluster: Cluster, observer: Observer) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=made_by("DaemonSet"))
    at(observer, 1.0)
    [pod] = observer.pods("default")
    assert (pod.node, len(pod.gpus)) == ("gpu-1", 1)


def test_a_quota_of_memory_counts_floors(cluster: Cluster, observer: Observer) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "vram", "namespace": "default"},
        "spec": {"hard": {"requests.arbiter.infernum.io/vram": "4"}},
    }
    cluster.kubectl("apply", "-f", "-", stdin=as_yaml(quota))
    observer.wait("a quota of which nothing is used", lambda: unused(cluster), component="kube-controller-manager")
    cluster.kubectl("apply", "-f", "-", stdin=as_yaml(CHAT.pod))
    at(observer, 1.0)

    second = CHAT.pod
    second["metadata"]["name"] = "second"
    with pytest.raises(CommandError) as refusal:
        cluster.kubectl("apply", "-f", "-", stdin=as_yaml(second))
    assert "exceeded quota: vram, requested: requests.arbiter.infernum.io/vram=4" in str(refusal.value)
    cluster.kubectl("delete", "pod", "chat", "--timeout=60s")


def queued(workload: Workload = CHAT) -> dict[str, Any]:
    """The workload's pod as a queue wants it: it asks for its floor itself."""
    pod = workload.pod
    pod["spec"]["containers"][0]["resources"]["limits"] = {"arbiter.infernum.io/vram": "4"}
    return pod


def test_a_job_that_a_queue_suspended_runs_where_it_is_sent_once_it_is_let_in(
    cluster: Cluster, observer: Observer
) -> None:
    job = yaml.safe_load(made_by("Job", api="batch/v1", suspend=True))
    job["spec"]["template"]["spec"] = queued(replace(CHAT, run_seconds=300.0))["spec"]
    cluster.kubectl("apply", "-f", "-", stdin=as_yaml(job))
    cluster.kubectl("wait", "--for=condition=Suspended", "job/chat", "--timeout=60s")
    assert observer.pods("default") == []

    # As Kueue does: it lets the Job in and says on which nodes, in one step.
    sent = {"nodeSelector": {"kubernetes.io/hostname": "gpu-1"}}
    let_in = json.dumps({"spec": {"suspend": False, "template": {"spec": sent}}})
    cluster.kubectl("patch", "job", "chat", "--type=merge", f"--patch={let_in}")
    at(observer, 1.0)

    # And takes it back for a more important one.
    cluster.kubectl("patch", "job", "chat", "--type=merge", '--patch={"spec": {"suspend": true}}')
    observer.wait("no pod", lambda: True if not observer.pods("default") else None, component="kube-controller-manager")
    says(cluster, observer, pods="0/0", phase="Pending")


def test_a_pod_that_a_queue_gates_waits_for_the_queue_alone_and_then_runs_where_it_is_sent(
    cluster: Cluster, observer: Observer
) -> None:
    pod = queued()
    pod["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    cluster.kubectl("apply", "-f", "-", stdin=as_yaml(pod))
    says(cluster, observer, pods="0/1", phase="Pending")
    placed = next(condition for condition in status(cluster)["conditions"] if condition["type"] == "Placed")
    assert (placed["reason"], placed["message"]) == ("Scheduling", "1 pod not scheduled yet")

    sent = {"schedulingGates": None, "nodeSelector": {"kubernetes.io/hostname": "gpu-1"}}
    cluster.kubectl("patch", "pod", "chat", "--type=merge", f"--patch={json.dumps({'spec': sent})}")
    at(observer, 1.0)
    uid = cluster.kubectl("get", "pod", "chat", "--output=jsonpath={.metadata.uid}")
    about_it = f"--field-selector=reason=VramWaiting,involvedObject.uid={uid}"
    assert cluster.kubectl("get", "events", about_it, "--output=name") == "", "it never waited for memory"
    cluster.kubectl("delete", "pod", "chat", "--timeout=60s")


def unused(cluster: Cluster) -> bool | None:
    """Whether the quota has been counted, and nobody that has just gone is in it any more."""
    counted = json.loads(cluster.kubectl("get", "quota", "vram", "--output=json")).get("status", {})
    return True if counted.get("used") == {"requests.arbiter.infernum.io/vram": "0"} else None
