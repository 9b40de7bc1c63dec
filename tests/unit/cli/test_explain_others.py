"""`arbiter explain` of GPUs, GpuAllocations, and of what makes pods; and what can be asked about."""

import json
from typing import Any

import pytest

from arbiter_cli.errors import InputError
from arbiter_cli.explain.gpu import explain_gpu
from arbiter_cli.explain.maker import Made, explain_maker
from arbiter_cli.explain.names import Kind, Subject, missing, parse_subject
from arbiter_cli.explain.several import explain_allocation
from arbiter_cli.explain.text import as_text
from arbiter_cli.kinds import Maker
from arbiter_kube.api.objects import Event
from arbiter_kube.client import codec
from tests.unit.cli.cluster import Site, before, demo, event


def gpu_text(site: Site, node: str = "gpu-1") -> str:
    snapshot = site.snapshot()
    ((_, state),) = [pair for pair in snapshot.cluster.nodes_with_gpus() if pair[0].name == node]
    return as_text(explain_gpu(snapshot, state, state.report.gpus[0]))


def test_a_gpu_is_told_who_shares_it_what_is_free_and_what_would_change_it() -> None:
    assert gpu_text(demo()) == (
        "gpu-1/0, SIM-12G gpu-1-0: 2 pods share it, enforcement monitor.\n"
        "Full sizes add up to 16.0 GiB, 12.0 are usable. Price 0.356 (High), mode Adaptive.\n"
        "Room for a floor of 6Gi more. Measured in use: 11.25 GiB.\n"
        "  team-a/chat     High        floor  4.0  full 10.0  has  9.04 GiB  0.904\n"
        "  team-b/posters  Background  floor  1.8  full  6.0  has  2.96 GiB  0.493\n"
        "What would change it (each line computed by the solver):\n"
        "  team-a/chat leaves       team-b/posters 1.000\n"
        "  team-b/posters leaves    team-a/chat 1.000\n"
        "  one more team-a/chat     team-a/chat 0.510 each, team-b/posters 0.300\n"
        "  one more team-b/posters  team-a/chat 0.725, team-b/posters 0.395 each"
    )


def test_an_empty_gpu_that_is_ill() -> None:
    assert gpu_text(Site().node(healthy=False, reason="XID 79")) == (
        "gpu-1/0, SIM-12G gpu-1-0: nobody is on it, enforcement monitor; NOT healthy: XID 79.\n"
        "Full sizes add up to 0.0 GiB, 12.0 are usable. Price -1.000 (Low), mode Adaptive.\n"
        "Room for a floor of 0 more. Measured in use: 0.00 GiB."
    )


def allocation_text(site: Site) -> str:
    snapshot = site.snapshot()
    return as_text(explain_allocation(snapshot, next(iter(snapshot.cluster.allocations.values()))))


def test_an_allocation_is_told_by_its_pods_and_the_one_that_is_worst_off() -> None:
    late = {
        "type": "RestartNeeded",
        "status": "True",
        "reason": "DemandChanged",
        "message": "chat-0 reserved 4Gi, floor 6Gi is asked for; restart to apply",
        "lastTransitionTime": before(60),
    }
    fine = {**late, "type": "Placed", "reason": "Placed", "message": "2 pods on 2 nodes"}
    status = {"phase": "Reduced", "pods": "2/2", "conditions": [late, fine]}
    site = (
        Site()
        .node("gpu-1", "8Gi")
        .node("gpu-2")
        .allocation("a/chat", status=status)
        .pod("a/chat-0", allocation="chat", target=("0.800", 8192))
        .pod("a/chat-1", allocation="chat", target=("1.000", 10240), gpus=("gpu-2-0",))
    )
    text = allocation_text(site)
    assert text.startswith(
        "a/chat: LlmInference, priority High, full 10Gi at 1.000, floor 4Gi at 0.400; pods 2/2; Reduced.\n"
        "RestartNeeded True (DemandChanged): chat-0 reserved 4Gi, floor 6Gi is asked for; restart to apply.\n"
        "  POD       GPU      QUALITY  STATE\n"
        "  a/chat-0  gpu-1/0  0.800    Applied\n"
        "  a/chat-1  gpu-2/0  1.000    Applied\n"
        "\n"
        "pod/a/chat-0\n"
        "Quality 0.800, 8192Mi on gpu-1/0, revision 1, applied.\n"
    )


def test_an_allocation_that_nobody_uses_says_what_a_pod_would_find() -> None:
    assert allocation_text(Site().node().allocation("a/chat")) == (
        "a/chat: LlmInference, priority High, full 10Gi at 1.000, floor 4Gi at 0.400; pods 0/0; "
        "the operator has not looked at it yet: if that lasts, arbiter doctor.\n"
        "A pod of it would get 1.000 (10240Mi) on gpu-1/0."
    )


def maker(kind: str, *, uid: str = "uid-it", spec: dict[str, Any] | None = None, **status: Any) -> Maker:
    metadata = {"name": "chat", "namespace": "a", "uid": uid}
    return codec.decode(json.dumps({"metadata": metadata, "spec": spec or {}, "status": status}).encode(), Maker)


def maker_text(kind: str, one: Maker, *events: Event, site: Site | None = None) -> str:
    snapshot = (site or Site().node()).snapshot()
    return as_text(explain_maker(snapshot, Made(kind=kind, maker=one, through=[one], events=events)))


WEBHOOK = 'Error creating: admission webhook "pods.arbiter.infernum.io" denied the request: '

REFUSALS = {
    "a GpuAllocation that is not there": (
        "Deployment",
        f'{WEBHOOK}pod a/chat: no GpuAllocation "caht" in namespace a; apply it first. Nearest name: "chat".',
        'Refused: pod a/chat: no GpuAllocation "caht" in namespace a; apply it first. Nearest name: "chat".\n'
        "do: apply that GpuAllocation, or name another: kubectl edit deployment/chat -n a; "
        "its pods are then made by themselves",
    ),
    "a demand that contradicts itself": (
        "StatefulSet",
        f"{WEBHOOK}pod a/chat-0: floor 12Gi is larger than full 10Gi.",
        "Refused: pod a/chat-0: floor 12Gi is larger than full 10Gi.\n"
        "do: mend its pod template: kubectl edit statefulset/chat -n a; its pods are then made by themselves",
    ),
    "a Job's, which cannot be edited": (
        "Job",
        f"{WEBHOOK}pod a/chat-0: floor 12Gi is larger than full 10Gi.",
        "Refused: pod a/chat-0: floor 12Gi is larger than full 10Gi.\n"
        "do: a Job's template cannot be edited: kubectl delete job/chat -n a, mend the manifest, and apply it again",
    ),
    "a quota": (
        "Deployment",
        'Error creating: pods "chat" is forbidden: exceeded quota: vram, requested: 4, used: 8, limited: 8',
        'Refused: pods "chat" is forbidden: exceeded quota: vram, requested: 4, used: 8, limited: 8\n'
        "do: kubectl describe resourcequota -n a; raise it, or lower the floor",
    ),
    "an operator that does not answer": (
        "Deployment",
        'Error creating: Internal error occurred: failed calling webhook "pods.arbiter.infernum.io": refused',
        'Refused: Internal error occurred: failed calling webhook "pods.arbiter.infernum.io": refused\n'
        "do: the operator, which admits such pods, does not answer: arbiter doctor",
    ),
}


@pytest.mark.parametrize(("kind", "message", "answer"), REFUSALS.values(), ids=REFUSALS.keys())
def test_pods_that_were_refused_by(kind: str, message: str, answer: str) -> None:
    one = maker(kind, spec={"replicas": 2, "parallelism": 2})
    told = maker_text(
        kind, one, event("uid-it", "FailedCreate", "older", ago=300), event("uid-it", "FailedCreate", message)
    )
    assert told == f"a/chat: {kind}, wants 2 pods, has 0, of them 0 running.\n{answer}"


def test_the_condition_tells_once_the_event_is_gone() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": "x denied the request: pod a/chat: no. "}
    told = maker_text("ReplicaSet", maker("ReplicaSet", spec={"replicas": 1}, conditions=[failure]))
    assert "Refused: pod a/chat: no.\n" in told


def test_a_maker_whose_pods_are_all_there_is_told_by_them() -> None:
    site = Site().node().pod("a/chat-0", target=("1.000", 10240), owner="uid-it")
    one = maker("Deployment", spec={"replicas": 1})
    told = maker_text("Deployment", one, event("uid-it", "FailedCreate", f"{WEBHOOK}long ago."), site=site)
    assert told.startswith(
        "a/chat: Deployment, wants 1 pod, has 1, of them 1 running.\n"
        "  POD       GPU      QUALITY  STATE\n"
        "  a/chat-0  gpu-1/0  1.000    Applied\n"
        "What happened, latest first:\n"
    )


@pytest.mark.parametrize(
    ("words", "subject"),
    [
        (["pod/chat-0"], Subject(Kind.POD, "chat-0")),
        (["po", "chat-0"], Subject(Kind.POD, "chat-0")),
        (["gpua/chat"], Subject(Kind.ALLOCATION, "chat")),
        (["gpuallocations.arbiter.infernum.io/chat"], Subject(Kind.ALLOCATION, "chat")),
        (["deployments.apps", "chat"], Subject(Kind.DEPLOYMENT, "chat")),
        (["gpu/gpu-1/0"], Subject(Kind.GPU, "gpu-1", 0)),
        (["gpun/gpu-1"], Subject(Kind.NODE, "gpu-1")),
    ],
)
def test_subjects_are_named_as_kubectl_names_them(words: list[str], subject: Subject) -> None:
    assert parse_subject(words) == subject


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["service/x"],
            '"service" cannot be explained; write one of pod, gpuallocation, deployment, replicaset, statefulset, '
            "daemonset, job, node, gpu, then / and a name.",
        ),
        (["pod"], '"pod" names no pod; write for example pod/chat.'),
        (["gpu/gpu-1"], '"gpu/gpu-1" is no GPU; write its node and index, such as gpu/gpu-1/0.'),
    ],
)
def test_what_cannot_be_explained_is_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_subject(words)
    assert str(refused.value) == sentence


def test_a_name_that_is_not_there_is_answered_with_the_nearest() -> None:
    answer = missing(Subject(Kind.POD, "caht-0"), ["chat-0", "web-0"], where=" in namespace a")
    assert str(answer) == 'there is no pod/caht-0 in namespace a; the nearest name is "chat-0".'
