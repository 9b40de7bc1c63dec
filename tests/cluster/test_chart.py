"""The chart's life on a real cluster, one test after another: installed, upgraded, rolled back, removed.

Meanwhile pods run, and keep what they have.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

from hack import image
from hack.cluster.chart import CHART, NAMESPACE, RELEASE, helm
from hack.cluster.cluster import Cluster, arbiter_images
from hack.cluster.errors import CommandError
from hack.cluster.installation import RESOURCE
from hack.cluster.progress import Progress
from hack.journal import Step
from hack.observe import FileView, Observer, PodView
from tests.cluster.audit import audited
from tests.cluster.chaos.api import Api, RefusedError, UnavailableError
from tests.cluster.chaos.recorder import PODS
from tests.cluster.conftest import insist, keep_remains
from tests.cluster.workloads import Workload

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CHAT = Workload(name="chat", priority="High", full="10Gi", floor="4Gi")
POSTERS = Workload(name="posters", workload_type="ImageGeneration", priority="Background", full="6Gi", floor="1843Mi")
VALUES = {"gpuBackend": "simulated", "image": {"tag": image.content_tag()}}
KINDS = (
    "namespaces,serviceaccounts,clusterroles,clusterrolebindings,roles,rolebindings,configmaps,secrets,services,"
    "deployments,daemonsets,pods,poddisruptionbudgets,networkpolicies,priorityclasses,leases,"
    "customresourcedefinitions,mutatingwebhookconfigurations,validatingadmissionpolicies,"
    "validatingadmissionpolicybindings"
)
DIRECTORIES = ("run", "var/lib", "var/lib/kubelet/device-plugins", "var/lib/kubelet/plugins_registry")
MADE_BY_PODS = {"run/netns", "var/lib/cni", "var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"}
"""What runtime and kubelet make with the first pod, whose ever that is."""
WORKLOADS = ("deployment/arbiter-operator", "deployment/arbiter-scheduler", "daemonset/arbiter-device-plugin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What befell a container: the GPUs, sizes and revisions that it was told, and how often it was started again."""

    file: FileView | None
    steps: tuple[Step, ...]
    target: float | None
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """A cluster without Arbiter, which has the images that its chart names, and what there was before."""

    cluster: Cluster
    objects: frozenset[str]
    paths: frozenset[Path]


@pytest.fixture(scope="module")
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    failed_before = request.session.testsfailed
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.up(nodes=1, gpus="12Gi", arbiter=False)
        for archive in arbiter_images(cluster.directory / "images", Progress()):
            cluster.add_image(archive)
        yield Bare(cluster=cluster, objects=objects(cluster), paths=paths(cluster))
    finally:
        if request.session.testsfailed > failed_before:
            keep_remains(cluster, request.module.__name__)
        cluster.down()


@pytest.fixture(scope="module")
def installed(bare: Bare) -> Cluster:
    """The cluster, once the chart has been installed with its defaults, and a pod has read its quality soon after."""
    begun = time.monotonic()
    told = on(
        bare.cluster, "install", RELEASE, str(CHART), "--create-namespace", "--values=-", stdin=json.dumps(VALUES)
    )
    assert "See your GPUs" in told
    # As the notes say. Until the webhook serves, pods that ask for memory are refused.
    selector = "--selector=app.kubernetes.io/name=arbiter"
    bare.cluster.kubectl("wait", f"--namespace={NAMESPACE}", "--for=condition=Ready", "pod", selector, "--timeout=55s")
    # A moment later kube-proxy knows where the webhook is.
    insist(bare.cluster, CHAT.manifest)
    settled(bare.cluster, CHAT, 1.0)
    took = time.monotonic() - begun
    print(f"helm install to a quality in the container: {took:.1f} s")
    assert took < 60
    return bare.cluster


def test_helm_test_has_a_pod_read_its_quality(installed: Cluster) -> None:
    assert "Phase:          Succeeded" in on(installed, "test", RELEASE, "--timeout=2m")


def test_upgrade_and_rollback_change_nothing_for_pods_that_run(installed: Cluster) -> None:
    settled(installed, CHAT, 1.0)
    installed.kubectl("apply", "-f", "-", stdin=POSTERS.manifest)
    settled(installed, CHAT, 0.904)
    settled(installed, POSTERS, 0.493)
    before = lives(installed)

    with asking_for_admission(installed) as unanswered:
        on(
            installed,
            "upgrade",
            RELEASE,
            str(CHART),
            "--reset-then-reuse-values",
            "--set=logLevel=debug",
            "--wait",
            "--timeout=2m",
        )
        replaced(installed)
        assert lives(installed) == before

        on(installed, "rollback", RELEASE, "--wait", "--timeout=2m")
        replaced(installed)
    assert unanswered == []
    assert lives(installed) == before
    assert forbidden(installed) == []

    installed.kubectl("delete", "pod,gpua", POSTERS.name, "--timeout=60s")
    settled(installed, CHAT, 1.0)


def test_the_unit_of_memory_changes_only_where_nobody_holds_any(installed: Cluster) -> None:
    settled(installed, CHAT, 1.0)
    other = (
        "upgrade",
        RELEASE,
        str(CHART),
        "--reset-then-reuse-values",
        "--set=vramUnit=2Gi",
        "--wait",
        "--timeout=2m",
    )
    held = "vramUnit cannot be 2Gi: on node gpu-1 pods hold memory in units of 1024Mi (default/chat"
    with pytest.raises(CommandError) as refused:
        on(installed, *other)
    assert held in str(refused.value)
    assert "; drain it first, or set vramUnit to 1024Mi" in str(refused.value)

    installed.kubectl("delete", "pod", CHAT.name, "--timeout=60s")
    observer = Observer(installed)
    observer.wait("nobody to hold memory", partial(nothing_held, installed), component="kubelet/gpu-1")
    on(installed, *other)
    observer.wait("six units on the node", partial(offered, installed, "6"), component="kubelet/gpu-1")
    installed.kubectl("apply", "-f", "-", stdin=CHAT.manifest)
    settled(installed, CHAT, 1.0)


def test_uninstall_leaves_running_pods_what_they_have_and_nothing_else(bare: Bare, installed: Cluster) -> None:
    settled(installed, CHAT, 1.0)
    file = Observer(installed).file(running(installed, CHAT.name))
    on(installed, "uninstall", RELEASE, "--wait", "--timeout=2m")
    assert Observer(installed).file(running(installed, CHAT.name)) == file
    assert "10Gi" in installed.kubectl("get", "gpua", CHAT.name), "definitions are kept, and what people wrote"

    # From here on as docs/install.md says.
    installed.kubectl("delete", "pod", CHAT.name, "--timeout=60s")
    installed.kubectl("delete", "crd", "--selector=app.kubernetes.io/part-of=arbiter", "--timeout=60s")
    installed.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")
    assert objects(installed) == bare.objects
    left = {str(path) for path in paths(installed) - bare.paths} - MADE_BY_PODS
    assert left == {"run/arbiter"}, "beside var/lib/arbiter, in which the simulated GPUs were described before"


@contextmanager
def asking_for_admission(cluster: Cluster) -> Iterator[list[str]]:
    """Asks all the while whether a pod would be admitted; the list has the times at which nobody listened."""
    api, unanswered, over = Api(cluster.control_plane), list[str](), threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            try:
                api.call("POST", f"{PODS}?dryRun=All", POSTERS.pod)
            except RefusedError:
                pass  # that pod is there already: it was admitted
            except UnavailableError as error:
                # On a busy machine it may be late.
                if "connection refused" in str(error):
                    unanswered.append(f"at {time.time():.1f}: {error}")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield unanswered
    finally:
        over.set()
        asking.join()


def on(cluster: Cluster, verb: str, *arguments: str, stdin: str | None = None) -> str:
    """Runs helm on the cluster."""
    return helm(verb, *arguments, f"--namespace={NAMESPACE}", kubeconfig=cluster.kubeconfig, stdin=stdin, seconds=180.0)


def settled(cluster: Cluster, workload: Workload, quality: float) -> None:
    """Waits until the container reads this quality, and has acknowledged it."""
    observer = Observer(cluster)

    def read() -> bool | None:
        pod = observer.pod(workload.namespace, workload.name)
        file = observer.file(pod) if pod is not None and pod.phase == "Running" else None
        if pod is None or file is None or file.quality != quality:
            return None
        return True if observer.confirmed(pod) else None

    observer.wait(f"{workload.key} to read {quality}", read, component="kubelet/gpu-1", seconds=60.0)


def running(cluster: Cluster, name: str) -> PodView:
    pod = Observer(cluster).pod("default", name)
    assert pod is not None
    assert pod.phase == "Running"
    return pod


def lives(cluster: Cluster) -> dict[str, Life]:
    """What befell each container until now."""
    observer = Observer(cluster)
    statuses = "--output=jsonpath={.status.containerStatuses[0].restartCount}"
    return {
        pod.name: Life(
            file=observer.file(pod),
            steps=tuple(observer.journal(pod)),
            target=pod.quality,
            restarts=int(cluster.kubectl("get", "pod", pod.name, statuses)),
        )
        for pod in observer.pods("default")
    }


def replaced(cluster: Cluster) -> None:
    """Waits until every process is a new one, and one of the new operators leads."""
    for name in WORKLOADS:
        cluster.kubectl("rollout", "status", f"--namespace={NAMESPACE}", name, "--timeout=55s")

    def led() -> bool | None:
        operators = ("get", "pods", f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/component=operator")
        names = cluster.kubectl(*operators, "--output=jsonpath={.items[*].metadata.name}").split()
        leader = ("get", "lease", "arbiter-operator", f"--namespace={NAMESPACE}")
        holder = cluster.kubectl(*leader, "--output=jsonpath={.spec.holderIdentity}")
        return True if any(holder.startswith(name) for name in names) else None

    Observer(cluster).wait("a new operator to lead", led, component="kubelet/gpu-1")


def forbidden(cluster: Cluster) -> list[str]:
    """What Arbiter's processes asked for, and have no right to."""
    return [event["requestURI"] for event in audited(cluster) if event["responseStatus"]["code"] == 403]


def nothing_held(cluster: Cluster) -> bool | None:
    status = json.loads(cluster.kubectl("get", "gpunode", "gpu-1", "--output=json"))["status"]
    return None if status.get("slices") else True


def offered(cluster: Cluster, units: str) -> bool | None:
    status = json.loads(cluster.kubectl("get", "node", "gpu-1", "--output=json"))["status"]
    return True if status["allocatable"].get(RESOURCE) == units else None


def objects(cluster: Cluster) -> frozenset[str]:
    """Kind, namespace and name of every object that an installation could leave behind."""
    listed = yaml.safe_load(cluster.kubectl("get", KINDS, "--all-namespaces", "--output=yaml"))["items"]
    return frozenset(
        f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}"
        for one in listed
        # What Kubernetes makes by itself, a little after the namespace or the node.
        if one["metadata"]["name"] not in {"kube-root-ca.crt", "default"}
        and one["metadata"].get("namespace") != "kube-node-lease"
    )


def paths(cluster: Cluster) -> frozenset[Path]:
    """What lies in the node's directories where an installation could leave something."""
    (root,) = (node.directory / "root" for node in cluster.nodes)
    return frozenset(path.relative_to(root) for name in DIRECTORIES for path in (root / name).glob("*"))
