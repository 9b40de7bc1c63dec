from typing import Any

import msgspec
import pytest

from arbiter_kube.api.objects import Node, Pod
from arbiter_kube.api.scheduling import Requests, admits, allocatable, requests

READY = [{"type": "Ready", "status": "True"}]


def node(*, ready: bool = True, **spec: Any) -> Node:
    conditions = READY if ready else []
    metadata = {"name": "gpu-1", "labels": {"zone": "a", "cards": "8"}}
    return msgspec.convert({"metadata": metadata, "spec": spec, "status": {"conditions": conditions}}, Node)


def pod(**spec: Any) -> Pod:
    return msgspec.convert({"spec": spec}, Pod)


def drawn_to(*terms: dict[str, Any]) -> Pod:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return pod(affinity={"nodeAffinity": required})


def label(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("where", "who", "answer"),
    [
        pytest.param(node(), pod(), True, id="a ready node takes a pod without wishes"),
        pytest.param(node(ready=False), pod(), False, id="a node that is not ready takes none"),
        pytest.param(node(unschedulable=True), pod(), False, id="a cordoned node takes none"),
        pytest.param(
            node(unschedulable=True),
            pod(tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]),
            True,
            id="a cordoned node takes who tolerates it",
        ),
        pytest.param(node(), pod(nodeSelector={"zone": "a"}), True, id="a selector that the labels meet"),
        pytest.param(node(), pod(nodeSelector={"zone": "b"}), False, id="a selector that they do not meet"),
        pytest.param(node(taints=[TAINT]), pod(), False, id="a taint keeps out"),
        pytest.param(node(taints=[TAINT | {"effect": "PreferNoSchedule"}]), pod(), True, id="a preference does not"),
        pytest.param(
            node(taints=[TAINT]), pod(tolerations=[{"key": "gpu", "value": "yes"}]), True, id="an equal toleration"
        ),
        pytest.param(
            node(taints=[TAINT]), pod(tolerations=[{"key": "gpu", "value": "no"}]), False, id="one of another value"
        ),
        pytest.param(
            node(taints=[TAINT]),
            pod(tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]),
            False,
            id="one of another effect",
        ),
        pytest.param(node(taints=[TAINT]), pod(tolerations=[{"operator": "Exists"}]), True, id="one of everything"),
        pytest.param(node(), drawn_to(label("zone", "In", "a", "b")), True, id="In"),
        pytest.param(node(), drawn_to(label("zone", "NotIn", "a")), False, id="NotIn"),
        pytest.param(node(), drawn_to(label("rack", "NotIn", "a")), True, id="NotIn of a label that is not there"),
        pytest.param(node(), drawn_to(label("rack", "Exists")), False, id="Exists"),
        pytest.param(node(), drawn_to(label("rack", "DoesNotExist")), True, id="DoesNotExist"),
        pytest.param(node(), drawn_to(label("cards", "Gt", "4")), True, id="Gt"),
        pytest.param(node(), drawn_to(label("cards", "Lt", "4")), False, id="Lt"),
        pytest.param(node(), drawn_to(label("zone", "Gt", "4")), False, id="Gt of what is no number"),
        pytest.param(node(), drawn_to(label("zone", "In", "b"), label("zone", "In", "a")), True, id="any of the terms"),
        pytest.param(node(), drawn_to({}), False, id="a term without requirements matches nothing"),
        pytest.param(
            node(),
            drawn_to({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-2"]}]}),
            False,
            id="the node's name",
        ),
    ],
)
def test_where_a_pod_may_run(where: Node, who: Pod, answer: bool) -> None:
    assert admits(where, who) is answer


def asking(cpu: str, memory: str, **more: Any) -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": cpu, "memory": memory}}} | more


@pytest.mark.parametrize(
    ("who", "counted"),
    [
        pytest.param(pod(containers=[{}]), Requests(0, 0), id="nothing asked for"),
        pytest.param(
            pod(containers=[asking("500m", "1Gi"), asking("0.25", "1G")]),
            Requests(750, (1 << 30) + 10**9),
            id="containers add up",
        ),
        pytest.param(
            pod(containers=[asking("1", "10")], initContainers=[asking("3", "5")]),
            Requests(3000, 10),
            id="an init container counts where it needs more",
        ),
        pytest.param(
            pod(
                containers=[asking("1", "10")],
                initContainers=[asking("1", "1", restartPolicy="Always"), asking("3", "5")],
            ),
            Requests(4000, 11),
            id="sidecars run beside later init containers and beside containers",
        ),
        pytest.param(
            pod(containers=[asking("1", "10")], overhead={"cpu": "250m", "memory": "7"}),
            Requests(1250, 17),
            id="the runtime's own",
        ),
    ],
)
def test_what_a_pod_counts_for(who: Pod, counted: Requests) -> None:
    assert requests(who) == counted


def test_what_a_node_has() -> None:
    offered = msgspec.convert({"status": {"allocatable": {"cpu": "15890m", "memory": "64Gi"}}}, Node)
    assert allocatable(offered) == Requests(15890, 64 << 30)
    assert Requests(15890, 1).within(allocatable(offered))
    assert not Requests(15891, 1).within(allocatable(offered))
