"""What is said of pods on nodes of which little is known."""

from datetime import UTC, datetime

import pytest

from arbiter.demand import NO_POLICY
from arbiter_operator.node import NodeState
from arbiter_operator.status import allocation_status
from arbiter_operator.view import pod_views
from tests.unit.operator.builders import allocation, gpu_pod, node, target

NOWHERE: dict[str, NodeState | None] = {
    "its node reports nothing": None,
    "its node does not know its GPUs": node(),
}


@pytest.mark.parametrize("state", NOWHERE.values(), ids=NOWHERE)
def test_a_pod_of_whose_gpus_nobody_tells_is_said_to_be_on_its_node(state: NodeState | None) -> None:
    pod = gpu_pod(gpus=(), grant=target("0.904", 9256))
    views = pod_views([pod], node_state=lambda _: state, waits={}, applied_after=lambda _: None)
    status = allocation_status(allocation(), views, edits=(), defaults=NO_POLICY, now=datetime(2026, 1, 1, tzinfo=UTC))
    messages = {condition.type: condition.message for condition in status.conditions}
    assert messages["Placed"] == "1 pod on gpu-1"
    assert messages["QualityMet"] == "0.904 of 1.000, minimum 0.400: 1 pod is alone on gpu-1"
