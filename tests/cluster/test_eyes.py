"""What people see of a real cluster in which two workloads share a GPU and a third waits: top, explain, doctor."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hack.cluster.cluster import Cluster
from hack.observe import PodView
from hack.screens import share

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NODES, GPUS = 1, "12Gi"

ARBITER = Path(sys.executable).with_name("kubectl-arbiter")


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> tuple[PodView, PodView]:
    """chat and posters, while render waits."""
    return share(cluster)


def arbiter(cluster: Cluster, *arguments: str) -> str:
    """What the command prints, as kubectl's plugin."""
    done = subprocess.run(
        [ARBITER, *arguments, "--kubeconfig", str(cluster.kubeconfig)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def test_top_agrees_with_the_nodes_and_the_pods(cluster: Cluster, pods: tuple[PodView, PodView]) -> None:
    seen: dict[str, Any] = json.loads(arbiter(cluster, "top", "-o", "json"))
    (gpu,) = seen["rows"]
    held = {pod["pod"]: (pod["quality"], pod["granted"] >> 20, pod["state"]) for pod in gpu["pods"]}
    chat, posters = pods
    assert held == {chat.name: (0.904, 9256, "Movable"), posters.name: (0.493, 3028, "Movable")}
    assert [one["pod"] for one in seen["queue"]] == ["render-0"]
    assert (gpu["floors"], gpu["usable"], gpu["pressure"]) == (6 << 30, 12 << 30, "High")
    # kubectl tells it in its own way of the same report.
    assert " 12Gi     6Gi " in cluster.kubectl("get", "gpunodes")


def test_every_reason_that_was_given_can_be_unfolded(cluster: Cluster, pods: tuple[PodView, PodView]) -> None:
    chat, posters = pods
    told = arbiter(cluster, "explain", f"pod/{chat.name}", "-n", "team-a")
    assert told.startswith("Quality 0.904, 9256Mi on gpu-1/0, revision 2, applied.\nWhy not 1.000: ")
    assert ": team-b/posters (Background) joined gpu-1/0.\n" in told
    assert "  team-b/posters leaves    1.000\n" in told
    assert "  mode LlmFirst            0.926 (team-b/posters 0.455)\n" in told
    assert "QualityReduced  1.000 -> 0.904 (9256Mi): team-b/posters (Background) joined gpu-1/0" in told
    other = arbiter(cluster, "explain", "pod", posters.name, "-n", "team-b")
    assert ": placed on gpu-1/0 beside team-a/chat (High).\n" in other
    allocation = arbiter(cluster, "explain", "gpua/chat", "-n", "team-a")
    assert "; pods 1/1; Reduced.\n" in allocation
    waits = arbiter(cluster, "explain", "pod/render-0", "-n", "team-c")
    assert ": needs 10Gi on one GPU; gpu-1/0 has 6Gi, and 10Gi once team-a/chat (High) ends.\n" in waits


def test_a_deployment_whose_pods_are_refused_says_what_to_do(cluster: Cluster, pods: tuple[PodView, PodView]) -> None:
    labels = {"app": "caht"}
    template = {
        "metadata": {"labels": labels, "annotations": {"arbiter.infernum.io/allocation": "caht"}},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "caht"}, "spec": spec}
    cluster.kubectl("apply", "-n", "team-a", "-f", "-", stdin=json.dumps(deployment))
    cluster.kubectl("wait", "--for=condition=ReplicaFailure", "deployment/caht", "-n", "team-a", "--timeout=30s")
    told = arbiter(cluster, "explain", "deploy/caht", "-n", "team-a")
    assert told.startswith("team-a/caht: Deployment, wants 1 pod, has 0, of them 0 running.\nRefused: pod team-a/caht-")
    assert 'no GpuAllocation "caht" in namespace team-a; apply it first. Nearest name: "chat".\n' in told
    assert "do: apply that GpuAllocation, or name another: kubectl edit deployment/caht -n team-a" in told


def test_doctor_finds_nothing_wrong(cluster: Cluster, pods: tuple[PodView, PodView]) -> None:
    checks = json.loads(arbiter(cluster, "doctor", "-o", "json"))
    assert {check["name"]: check["verdict"] for check in checks if check["verdict"] != "ok"} == {}
    assert len(checks) == 14
