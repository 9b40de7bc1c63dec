"""What a QualityPolicy's status says of the nodes that follow it, and of those that follow another."""

from datetime import UTC, datetime
from typing import Any

import pytest

from arbiter.units import GIB
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import Node, ObjectMeta
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_operator.cluster import Cluster
from arbiter_operator.status import policy_status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAST = {"nodeSelector": {"speed": "fast"}}


def policy(name: str, **spec: Any) -> QualityPolicy:
    return QualityPolicy.model_validate({"metadata": {"name": name, "generation": 3}, "spec": spec})


def cluster(*policies: QualityPolicy) -> Cluster:
    """Two fast nodes and a slow one."""
    state = Cluster(unit=GIB)
    for name, speed in (("gpu-1", "fast"), ("gpu-2", "fast"), ("gpu-3", "slow")):
        state.node_applied(Node(metadata=ObjectMeta(name=name, labels={"speed": speed})))
        state.report_applied(GpuNode.model_validate({"metadata": {"name": name}}))
    for one in policies:
        state.policy_applied(one)
    return state


ALL_DEFAULT = policy("default")
SAID = {
    "alone": ([ALL_DEFAULT], "default", 3, "Followed", "in force on 3 nodes"),
    "beside one that a node selector and a weight prefer": (
        [ALL_DEFAULT, policy("fast", **FAST, weight=10)],
        "default",
        1,
        "Followed",
        "in force on 1 node; the other 2 nodes that it selects follow fast (weight 10)",
    ),
    "that nobody selects": (
        [ALL_DEFAULT, policy("odd", nodeSelector={"speed": "none"})],
        "odd",
        0,
        "NoNode",
        "selects no node that reports GPUs",
    ),
    "that ties with one of a name before its own": (
        [ALL_DEFAULT, policy("fast", **FAST)],
        "fast",
        0,
        "Outranked",
        "the 2 nodes that it selects follow default (weight 0 too, and the first name)",
    ),
    "that is outweighed everywhere": (
        [ALL_DEFAULT, policy("fast", **FAST, weight=1), policy("faster", **FAST, weight=2)],
        "fast",
        0,
        "Outranked",
        "the 2 nodes that it selects follow faster (weight 2)",
    ),
}


@pytest.mark.parametrize(("policies", "name", "nodes", "reason", "message"), SAID.values(), ids=SAID)
def test_a_policy_says_who_follows_it(
    policies: list[QualityPolicy], name: str, nodes: int, reason: str, message: str
) -> None:
    state = cluster(*policies)
    status = policy_status(state.policies[name], state.reach_of(state.policies[name]), now=NOW)
    [condition] = status.conditions
    assert (status.nodes, status.observed_generation) == (nodes, 3)
    assert (condition.type, condition.status) == ("InForce", "True" if nodes else "False")
    assert (condition.reason, condition.message, condition.observed_generation) == (reason, message, 3)


def test_when_default_is_deleted_the_next_one_says_so() -> None:
    state = cluster(ALL_DEFAULT, policy("fast", **FAST))
    state.policy_deleted("default")
    assert state.changed_policies
    assert state.reach_of(state.policies["fast"]).in_force == 2
    assert state.policy_of(next(iter(state.reports))) == state.policies["fast"]
