"""`arbiter doctor`: how what was found is judged, and what mends it."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from arbiter.workload import Priority
from arbiter_cli.doctor.admission import ADMISSION_POLICIES
from arbiter_cli.doctor.command import CHECKS, as_text, judged
from arbiter_cli.doctor.facts import Certificate, Check, CrdState, Facts, Trial, Unread, Verdict
from arbiter_cli.doctor.kinds import PriorityClassObject, ReplicatedSet, WebhookConfiguration
from arbiter_cli.printing import as_data
from arbiter_kube.api.objects import Lease, ObjectMeta
from arbiter_kube.client import ServerVersion, codec
from arbiter_operator.admission.classes import PREEMPTION_POLICY, priority_class
from tests.unit.cli.cluster import NOW, Site, before, demo

UPGRADE = "helm upgrade arbiter charts/arbiter -n arbiter-system --reset-then-reuse-values"
RENEWED = f"{UPGRADE}   (renews the chart's own; others are renewed by what made them)"
MENDED = f"{UPGRADE}   (puts back whatever is missing)"


def lease(*, ago: float = 2, holder: str = "operator-a") -> Lease:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 10, "renewTime": before(ago)}
    return codec.decode(json.dumps({"spec": spec}).encode(), Lease)


def webhook(**changes: Any) -> WebhookConfiguration:
    hook = {"name": "pods", "failurePolicy": "Fail", "timeoutSeconds": 5, "matchConditions": [{"name": "opted-in"}]}
    return codec.decode(json.dumps({"webhooks": [hook | changes]}).encode(), WebhookConfiguration)


def deployment(component: str, *, ready: int, wanted: int) -> ReplicatedSet:
    labels = {"app.kubernetes.io/component": component}
    body = {"metadata": {"labels": labels}, "spec": {"replicas": wanted}, "status": {"readyReplicas": ready}}
    return codec.decode(json.dumps(body).encode(), ReplicatedSet)


CLASSES = tuple(
    PriorityClassObject(
        metadata=ObjectMeta(name=priority_class(priority).name),
        value=priority_class(priority).value,
        preemption_policy=PREEMPTION_POLICY,
    )
    for priority in Priority
)

CRDS = dict.fromkeys(("gpuallocations", "gpunodes", "qualitypolicies"), CrdState.SAME)

TRIAL = Trial(plain=0.004, opted_in=0.013, plain_untouched=True, opted_in_admitted=True)

IN_A_YEAR = Certificate(of="secret tls", expires=NOW + timedelta(days=365))


def healthy(**changes: Any) -> Facts:
    """An installation in which everything is as it should be, but for these facts."""
    sound = Facts(
        at=NOW,
        namespace="arbiter-system",
        own_version="0.1.0",
        version=ServerVersion(git_version="v1.36.3", major="1", minor="36"),
        crds=CRDS,
        lease=lease(),
        deployments=(deployment("operator", ready=2, wanted=2), deployment("scheduler", ready=1, wanted=1)),
        filter_p99=0.003,
        webhook=webhook(),
        trial=TRIAL,
        certificates=(IN_A_YEAR,),
        admission_policies=frozenset(ADMISSION_POLICIES),
        priority_classes=CLASSES,
        missing_rights=(),
        snapshot=demo().snapshot(),
    )
    return replace(sound, **changes)


def test_an_installation_that_is_as_it_should_be() -> None:
    assert as_text(judged(healthy())).plain == (
        "ok    API server 1.36.3, CRDs v1alpha1 served\n"
        "ok    operator 2/2, leader renewed 2s ago\n"
        "ok    webhook 9ms, limited to opted-in pods\n"
        "ok    certificates: the first to expire is that of secret tls, in 365d\n"
        "ok    5 admission policies guard what Arbiter writes\n"
        "ok    5 priority classes\n"
        "ok    QualityPolicy default: mode Adaptive\n"
        "ok    arbiter-scheduler 1/1, filter p99 3ms: every pod of its own was looked at, 1 waits for room\n"
        "ok    service accounts have every right that they use\n"
        "ok    agents 1/1\n"
        "ok    agents and this command are 0.1.0\n"
        "ok    every GPU is offered by one owner\n"
        "ok    pods have the GPUs that they were bound with\n"
        "ok    GPUs 1/1 healthy\n"
        "14 checks, 0 failed"
    )


@pytest.mark.parametrize("unknown", [None, Unread("you may not")])
def test_the_pace_of_the_scheduler_is_left_out_where_nobody_tells_it(unknown: Unread | None) -> None:
    assert "ok    arbiter-scheduler 1/1: every pod" in as_text(judged(healthy(filter_p99=unknown))).plain


def test_for_machines() -> None:
    assert as_data(judged(healthy()))[2] == {
        "name": "webhook",
        "verdict": "ok",
        "text": "webhook 9ms, limited to opted-in pods",
        "details": [],
        "remedies": [],
    }


def test_what_may_not_be_read_is_left_out_and_said() -> None:
    unread = Unread("you may not: secrets is forbidden")
    objects = ("crds", "lease", "deployments", "webhook", "certificates", "admission_policies", "priority_classes")
    checks = judged(healthy(**dict.fromkeys((*objects, "trial", "missing_rights", "snapshot"), unread)))
    assert {check.verdict for check in checks} == {Verdict.SKIP}
    assert all("you may not: secrets is forbidden" in check.text for check in checks)
    assert as_text(checks).plain.endswith("14 checks, 0 failed, 14 skipped")


def test_where_nothing_is_installed_that_alone_is_told() -> None:
    checks = judged(healthy(crds=dict.fromkeys(CRDS, CrdState.MISSING), webhook=None))
    assert as_text(checks).plain == (
        "FAIL  Arbiter is not installed: API server 1.36.3 serves none of its CRDs\n"
        "      do: helm install arbiter charts/arbiter -n arbiter-system --create-namespace"
        "   (docs/install.md says with which values)\n"
        "1 check, 1 failed"
    )


def test_of_many_rights_that_are_missing_the_first_are_named() -> None:
    missing = tuple(f"arbiter-operator may not get thing-{number}" for number in range(43))
    (rights,) = [check for check in judged(healthy(missing_rights=missing)) if check.name == "rights"]
    assert rights.text == "service accounts lack 43 of the rights that they use"
    assert rights.details == (*missing[:5], "and 38 more")


def offered_twice() -> Site:
    return demo().resource("gpu-1", "nvidia.com/gpu", "8").using("ml/train-0", "gpu-1", "nvidia.com/gpu")


FAILURES: dict[str, tuple[Facts, str, str]] = {
    "an API server that is too old": (
        healthy(version=ServerVersion(git_version="v1.31.9", major="1", minor="31+")),
        "api",
        "FAIL  API server 1.31.9 is too old: Arbiter needs Kubernetes 1.32\n      do: upgrade the control plane",
    ),
    "CRDs of another version": (
        healthy(crds=CRDS | {"gpunodes": CrdState.MISSING, "qualitypolicies": CrdState.DIFFERENT}),
        "api",
        "FAIL  API server 1.36.3, 2 of 3 CRDs are not those of arbiter 0.1.0\n"
        "      gpunodes is not served\n"
        "      qualitypolicies is that of another version of Arbiter\n"
        "      do: arbiter crds | kubectl apply --server-side --force-conflicts -f -",
    ),
    "a leader that is gone": (
        healthy(lease=lease(ago=300), deployments=(deployment("operator", ready=0, wanted=2),)),
        "operator",
        "FAIL  operator 0/2: its leader operator-a was last heard of 5m ago, "
        "so no target changes and no pod that asks for GPU memory is admitted\n"
        "      do: kubectl -n arbiter-system get pods -l app.kubernetes.io/component=operator\n"
        "      do: kubectl -n arbiter-system logs -l app.kubernetes.io/component=operator --tail=50",
    ),
    "an operator that never ran": (
        healthy(lease=None, deployments=()),
        "operator",
        "FAIL  operator: nobody ever led, so no target changes and no pod that asks for GPU memory is admitted\n"
        "      do: kubectl -n arbiter-system get pods -l app.kubernetes.io/component=operator\n"
        "      do: kubectl -n arbiter-system logs -l app.kubernetes.io/component=operator --tail=50",
    ),
    "one replica of two": (
        healthy(deployments=(deployment("operator", ready=1, wanted=2),)),
        "operator",
        "warn  operator 1/2, leader renewed 2s ago\n"
        "      do: kubectl -n arbiter-system logs -l app.kubernetes.io/component=operator --tail=50",
    ),
    "no webhook": (
        healthy(webhook=None),
        "webhook",
        "FAIL  webhook: not installed, so demands are not frozen, and pods not placed by GPU\n      do: " + MENDED,
    ),
    "a webhook for every pod that lets pods in": (
        healthy(webhook=webhook(matchConditions=[], failurePolicy="Ignore", timeoutSeconds=30)),
        "webhook",
        "FAIL  webhook does not do its work\n"
        "      it is asked about every pod: its matchConditions are gone\n"
        "      pods that it cannot decide on are let in: its failurePolicy is not Fail\n"
        "      pods may wait for it longer than 5s: its timeoutSeconds is above that\n"
        "      do: " + MENDED,
    ),
    "a webhook that does not answer": (
        healthy(trial=replace(TRIAL, opted_in_admitted=False, failure="failed calling webhook: refused")),
        "webhook",
        "FAIL  webhook does not do its work\n"
        "      it does not answer, so pods that ask for GPU memory cannot be created: failed calling webhook: refused\n"
        "      do: kubectl -n arbiter-system logs -l app.kubernetes.io/component=operator --tail=50",
    ),
    "a webhook that changes the wrong pods": (
        healthy(trial=replace(TRIAL, plain_untouched=False, opted_in_admitted=False)),
        "webhook",
        "FAIL  webhook does not do its work\n"
        "      a pod that opts in (tried without creating it) came through without a demand\n"
        "      a pod that has nothing to do with Arbiter (tried without creating it) was changed\n"
        "      do: " + MENDED,
    ),
    "an expired certificate": (
        healthy(certificates=(IN_A_YEAR, Certificate(of="webhook pods's authority", expires=NOW - timedelta(hours=3)))),
        "certificates",
        "FAIL  certificate of webhook pods's authority expired 3h ago\n      do: " + RENEWED,
    ),
    "a certificate that soon expires": (
        healthy(certificates=(Certificate(of="secret tls", expires=NOW + timedelta(days=3)),)),
        "certificates",
        "warn  certificates: the first to expire is that of secret tls, in 3d\n      do: " + RENEWED,
    ),
    "an admission policy that is gone": (
        healthy(admission_policies=frozenset(ADMISSION_POLICIES[1:])),
        "guards",
        "FAIL  admission policies missing or not bound: arbiter-annotations\n"
        "      anybody who may edit pods may grant them memory, or write what nodes report\n"
        "      do: " + MENDED,
    ),
    "priority classes that preempt, or are gone": (
        healthy(
            priority_classes=(
                PriorityClassObject(metadata=CLASSES[0].metadata, value=1000, preemption_policy="PreemptLowerPriority"),
                *CLASSES[2:],
            )
        ),
        "priorities",
        "FAIL  2 of 5 priority classes are not as they should be\n"
        "      arbiter-background should have value 1000, preemptionPolicy Never\n"
        "      arbiter-low is missing: pods of this priority are refused\n"
        "      do: " + MENDED,
    ),
    "no default policy": (
        healthy(snapshot=Site().node().snapshot()),
        "policies",
        "warn  there is no QualityPolicy default: built-in defaults are in force\n      do: " + MENDED,
    ),
    "a policy that no node follows": (
        healthy(snapshot=demo().policy("night", nodeSelector={"pool": "night"}).snapshot()),
        "policies",
        "warn  no node follows QualityPolicy night\n"
        "      do: compare its nodeSelector with: kubectl get nodes --show-labels",
    ),
    "a scheduler that looks at nothing": (
        healthy(snapshot=demo().pod("a/x", age=60).snapshot(), deployments=()),
        "scheduler",
        "FAIL  arbiter-scheduler does not look at its pods: 1 pod waits unseen\n"
        "      the first is a/x\n"
        "      do: kubectl -n arbiter-system get pods -l app.kubernetes.io/component=scheduler\n"
        "      do: kubectl -n arbiter-system logs -l app.kubernetes.io/component=scheduler --all-containers --tail=50",
    ),
    "rights that are missing": (
        healthy(missing_rights=("arbiter-operator may not patch pods",)),
        "rights",
        "FAIL  service accounts lack 1 of the rights that they use\n"
        "      arbiter-operator may not patch pods\n"
        "      do: " + MENDED,
    ),
    "no agents": (
        healthy(snapshot=Site().snapshot()),
        "agents",
        "FAIL  agents: no node reports GPUs\n"
        "      do: kubectl -n arbiter-system get pods -l app.kubernetes.io/component=device-plugin -o wide\n"
        "      do: where there is none: kubectl label node NODE nvidia.com/gpu.present=true"
        "   (or set devicePlugin.nodeSelector)",
    ),
    "an agent that is gone": (
        healthy(snapshot=demo().node("gpu-2").resource("gpu-2", "arbiter.infernum.io/vram", "0").snapshot()),
        "agents",
        "FAIL  agents 1/2\n"
        "      gpu-2: offers no arbiter.infernum.io/vram: its agent does not run, or the kubelet does not know it\n"
        "      do: kubectl -n arbiter-system get pods -l app.kubernetes.io/component=device-plugin "
        "--field-selector spec.nodeName=gpu-2   (then its log; kubectl describe gpunode gpu-2 has what it reports)",
    ),
    "an agent that says why it offers nothing": (
        healthy(
            snapshot=demo()
            .node("gpu-2")
            .resource("gpu-2", "arbiter.infernum.io/vram", "0")
            .condition("gpu-2", "Ready", "False", "no GPU is healthy.")
            .snapshot()
        ),
        "agents",
        "FAIL  agents 1/2\n"
        "      gpu-2: no GPU is healthy\n"
        "      do: kubectl -n arbiter-system get pods -l app.kubernetes.io/component=device-plugin "
        "--field-selector spec.nodeName=gpu-2   (then its log; kubectl describe gpunode gpu-2 has what it reports)",
    ),
    "a node made anew under its name": (
        healthy(snapshot=demo().node("gpu-2").made_anew("gpu-2").snapshot()),
        "agents",
        "FAIL  agents 1/2\n      gpu-2: the node is gone, its GpuNode is left\n      do: kubectl delete gpunode gpu-2",
    ),
    "agents of another version": (
        healthy(own_version="0.2.0"),
        "versions",
        "warn  this command is 0.2.0, agents are: 1 of 0.1.0\n"
        "      do: kubectl -n arbiter-system rollout status daemonset/arbiter-device-plugin\n"
        "      do: or use the arbiter command of the cluster's version",
    ),
    "GPUs that are offered twice": (
        healthy(snapshot=offered_twice().snapshot()),
        "conflicts",
        "FAIL  gpu-1 offers its cards twice: nvidia.com/gpu 8 and arbiter.infernum.io/vram 12\n"
        "      in use through nvidia.com/gpu: ml/train-0\n"
        "      do: kubectl label node gpu-1 nvidia.com/gpu.deploy.device-plugin=false   (GPU Operator)\n"
        "      do: or keep NVIDIA's device plugin, whatever installed it, off these nodes: gpu-1\n"
        "      do: or share the cards out by name: devicePlugin.devices of the chart",
    ),
    "GPUs that were shared out by name": (
        healthy(snapshot=offered_twice().condition("gpu-1", "Conflict", "False", reason="Selected").snapshot()),
        "conflicts",
        "ok    every GPU is offered by one owner",
    ),
    "a pod on another GPU than bound with": (
        healthy(
            snapshot=Site()
            .node("gpu-1", "12Gi", "12Gi")
            .pod("a/x", target=("1.000", 10240))
            .drift("gpu-1", "x", "gpu-1-1")
            .snapshot()
        ),
        "drift",
        "warn  1 pod has other GPUs than bound with; the operator corrects that within seconds\n"
        "      a/x on gpu-1\n"
        "      do: if it lasts: kubectl -n arbiter-system logs -l app.kubernetes.io/component=operator --tail=50",
    ),
    "a GPU that is ill, and a node that complains": (
        healthy(
            snapshot=Site()
            .node(healthy=False, reason="XID 79")
            .condition("gpu-1", "MeasuredAboveGrant", "True", "more than it may hold is used by a/x.")
            .snapshot()
        ),
        "gpus",
        "FAIL  GPUs 0/1 healthy, 1 warning of their nodes\n"
        "      gpu-1/0: XID 79\n"
        "      gpu-1: more than it may hold is used by a/x\n"
        "      do: kubectl describe gpunode gpu-1; arbiter explain node/gpu-1",
    ),
}


@pytest.mark.parametrize(("facts", "name", "text"), FAILURES.values(), ids=FAILURES.keys())
def test_what_is_wrong_is_told_with_what_mends_it(facts: Facts, name: str, text: str) -> None:
    assert told(facts, name) == text


def told(facts: Facts, name: str) -> str:
    (found,) = [check for check in judged(facts) if check.name == name]
    return as_text([found]).plain.rpartition("\n")[0]


def test_every_failure_says_what_mends_it() -> None:
    checks: list[Check] = [check for facts, _, _ in FAILURES.values() for check in judged(facts)]
    wrong = [check for check in checks if check.verdict in (Verdict.FAIL, Verdict.WARN)]
    assert all(check.remedies for check in wrong)
    assert {check.name for check in wrong} == {check.name for check in judged(healthy())}
    assert len(CHECKS) == len({check.name for check in wrong})
