"""Two containers on one GPU: from manifests to the qualities that they read, and what kubectl shows of it."""

import re
from collections.abc import Iterator

import pytest

from hack.cluster.cluster import Cluster
from hack.observe import FileView, Observer
from tests.cluster.conftest import wait_until_free
from tests.cluster.workloads import Workload, as_yaml

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NODES, GPUS = 1, "12Gi"

CHAT = Workload(name="chat", priority="High", full="10Gi", floor="4Gi")
POSTERS = Workload(name="posters", workload_type="ImageGeneration", priority="Background", full="6Gi", floor="1843Mi")


@pytest.fixture
def small(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with one GPU of 12 GiB, and nothing on it."""
    yield cluster
    cluster.kubectl("delete", "gpuallocations,pods", "--all", "--timeout=60s")
    wait_until_free(cluster)


def agreed(observer: Observer, workload: Workload) -> FileView:
    """The container's file, once annotation, status and granted size say the same."""

    def read() -> FileView | None:
        pod = observer.pod(workload.namespace, workload.name)
        file = observer.file(pod) if pod is not None and pod.phase == "Running" else None
        if pod is None or file is None or file.quality != file.target:
            return None
        status = observer.allocation_quality(workload.namespace, workload.name)
        return file if file.quality == pod.quality == status else None

    return observer.wait(f"{workload.key} to settle", read, component="operator")


def settled_at(observer: Observer, workload: Workload, quality: float) -> FileView:
    """The same, once it is this quality."""

    def read() -> FileView | None:
        file = agreed(observer, workload)
        return file if file.quality == quality else None

    return observer.wait(f"{workload.key} at {quality}", read, component="operator")


def test_two_containers_share_a_gpu_and_the_first_gets_its_quality_back(small: Cluster) -> None:
    observer = Observer(small)
    small.kubectl("apply", "-f", "-", stdin=CHAT.manifest)
    assert settled_at(observer, CHAT, 1.0).vram == 10240 << 20

    small.kubectl("apply", "-f", "-", stdin=POSTERS.manifest)
    assert settled_at(observer, CHAT, 0.904).vram == 9256 << 20
    assert settled_at(observer, POSTERS, 0.493).vram == 3028 << 20

    small.kubectl("delete", "pod", POSTERS.name)
    assert settled_at(observer, CHAT, 1.0).vram == 10240 << 20


def test_an_engine_that_knows_nothing_of_arbiter_is_run_again_with_what_its_target_means(small: Cluster) -> None:
    observer = Observer(small)
    pod = CHAT.pod
    pod["spec"]["containers"][0]["command"] = [
        *("/run/arbiter/bin/arbiter-run", "--set=--share={gpu_fraction}", "--min-interval=0s", "--ready-after=0.1s"),
        *("sh", "-c", 'echo "started $0"; exec sleep 1000'),
    ]
    small.kubectl("apply", "-f", "-", stdin=as_yaml(CHAT.allocation, pod))
    assert settled_at(observer, CHAT, 1.0).vram == 10240 << 20

    small.kubectl("apply", "-f", "-", stdin=POSTERS.manifest)

    assert settled_at(observer, POSTERS, 0.493).vram == 3028 << 20
    log = small.kubectl("logs", CHAT.name).splitlines()
    assert [line for line in log if line.startswith("started")] == ["started --share=0.8333", "started --share=0.7532"]


def test_kubectl_shows_what_a_person_needs(small: Cluster) -> None:
    observer = Observer(small)
    for workload in (CHAT, POSTERS):
        small.kubectl("apply", "-f", "-", stdin=workload.manifest)
    settled_at(observer, CHAT, 0.904)
    settled_at(observer, POSTERS, 0.493)
    confirmed(small, observer, CHAT)

    table = small.kubectl("get", "gpua,gpun,qpol", "-A")
    described = small.kubectl("describe", "gpua", CHAT.name)

    assert rows(table) >= {
        "NAMESPACE NAME TYPE PRIORITY FULL FLOOR PODS QUALITY PHASE AGE",
        "default gpuallocation.arbiter.infernum.io/chat LlmInference High 10Gi 4Gi 1/1 0.904 Reduced",
        "default gpuallocation.arbiter.infernum.io/posters ImageGeneration Background 6Gi 1843Mi 1/1 0.493 Reduced",
        "NAMESPACE NAME GPUS USABLE FLOORS GRANTED USED HEALTHY ENFORCEMENT AGE",
        "NAMESPACE NAME MODE THRESHOLD NODES AGE",
        "qualitypolicy.arbiter.infernum.io/default Adaptive 1 1",
    }
    assert re.search(r"gpunode\.arbiter\.infernum\.io/gpu-1 +1 +12Gi +\S+ +12284Mi ", table)
    assert "0.904 of 1.000, minimum 0.400: 1 pod shares gpu-1/0 with default/posters" in described
    assert re.search(r"revision \d+ applied", described)
    assert re.search(
        r"QualityReduced .*1\.000 -> 0\.904 \(9256Mi\): default/posters \(Background\) joined gpu-1/0", described
    )


def test_pods_need_no_allocation_to_share(small: Cluster) -> None:
    observer = Observer(small)
    inline = CHAT.asking(name="inline")
    pod = inline.pod
    pod["metadata"]["annotations"] = {
        "arbiter.infernum.io/workload-type": "LlmInference",
        "arbiter.infernum.io/priority": "High",
        "arbiter.infernum.io/vram-full": "10Gi",
        "arbiter.infernum.io/vram-floor": "4Gi",
    }
    unmodified = CHAT.asking(name="unmodified").pod
    del unmodified["metadata"]["annotations"]
    unmodified["spec"]["containers"][0]["resources"]["limits"] = {"arbiter.infernum.io/vram": "5"}

    small.kubectl("apply", "-f", "-", stdin=as_yaml(pod, unmodified))

    assert read_by(observer, "inline", 0.7).vram == 7168 << 20
    assert read_by(observer, "unmodified", 1.0).vram == 5120 << 20


def test_every_replica_gets_a_grant_of_its_own(small: Cluster) -> None:
    observer = Observer(small)
    pod = CHAT.pod
    metadata = {"labels": {"app": "chat"}, "annotations": pod["metadata"]["annotations"]}
    template = {"metadata": metadata, "spec": pod["spec"]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "chat", "namespace": CHAT.namespace},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "chat"}}, "template": template},
    }
    small.kubectl("apply", "-f", "-", stdin=as_yaml(CHAT.allocation, deployment))

    observer.wait(
        "both replicas at 0.6",
        lambda: True if [pod.quality for pod in observer.pods(CHAT.namespace)] == [0.6, 0.6] else None,
        component="operator",
    )
    for replica in observer.pods(CHAT.namespace):
        assert read_by(observer, replica.name, 0.6).vram == 6144 << 20
    row = re.compile(r"chat +LlmInference +High +10Gi +4Gi +2/2 +0\.6 +Reduced")
    observer.wait(
        "both in the allocation's row", lambda: row.search(small.kubectl("get", "gpua", "chat")), component="operator"
    )
    small.kubectl("delete", "deployment", "chat", "--timeout=60s")


def read_by(observer: Observer, name: str, quality: float) -> FileView:
    """The container's file, once it says this quality."""

    def read() -> FileView | None:
        pod = observer.pod("default", name)
        file = observer.file(pod) if pod is not None and pod.phase == "Running" else None
        return file if file is not None and file.quality == quality else None

    return observer.wait(f"{name} to read {quality}", read, component="device-plugin/gpu-1")


def confirmed(cluster: Cluster, observer: Observer, workload: Workload) -> None:
    """Waits until the container's acknowledgement stands in the allocation's conditions."""
    observer.wait(
        f"the size that {workload.key} confirmed",
        lambda: True if "Applied" in cluster.kubectl("describe", "gpua", workload.name) else None,
        component="operator",
    )


def rows(table: str) -> set[str]:
    """Lines with single blanks, without the age at their end."""
    return {re.sub(r" +", " ", re.sub(r" +\d+[smh]\S*$", "", line.strip())) for line in table.splitlines()}


def test_a_pod_that_fits_nowhere_waits_and_its_events_say_why(small: Cluster) -> None:
    observer = Observer(small)
    small.kubectl("apply", "-f", "-", stdin=CHAT.manifest)
    settled_at(observer, CHAT, 1.0)
    confirmed(small, observer, CHAT)
    render = Workload(name="render", workload_type="VideoGeneration", priority="Low", full="24Gi", floor="10Gi")
    small.kubectl("apply", "-f", "-", stdin=render.manifest)

    message = observer.wait(
        "the reason", lambda: observer.event(render.namespace, render.name, "VramWaiting"), component="operator"
    )
    scheduler = observer.wait(
        "the scheduler's event",
        lambda: observer.event(render.namespace, render.name, "FailedScheduling"),
        component="arbiter-scheduler",
    )

    assert message.startswith("needs 10Gi on one GPU; gpu-1/0 has 8Gi")
    assert "1 Insufficient arbiter.infernum.io/vram" in scheduler
