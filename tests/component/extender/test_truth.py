"""What others write decides: room that the operator keeps for a pod, and GPUs that the kubelet gave."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from arbiter.ids import GpuUuid, NodeName
from arbiter_kube.api import SCHEDULER_NAME
from arbiter_kube.api import annotations as a
from arbiter_kube.api.annotations import Nomination
from arbiter_kube.api.gpunode import GrantOnNode, GrantState
from arbiter_kube.api.resources import PODS
from tests.component.extender.support import Extender, Site, eventually, where
from tests.unit.extender.builders import NodeBuilder, a_node, a_pod

pytestmark = pytest.mark.usefixtures("scheduler")

NO_ROOM = "0/1 nodes are available: 1 no GPU with room for the floor."


async def test_room_that_is_kept_for_a_waiting_pod_goes_to_that_pod_alone(extender: Extender, site: Site) -> None:
    node = await site.add_node("7Gi", "3Gi")
    await extender.knows(node)
    waiting = await site.add_pod(a_pod("waiting"))
    await _nominate(site, "waiting", node=node, gpu=f"{node}-0", lasting=timedelta(minutes=5))
    await eventually(lambda: _claims(extender, node, [("waiting", "Nominated")]), "nominated room")
    await site.add_pod(a_pod("other"), scheduler=SCHEDULER_NAME)
    assert (await site.refusal("other")).startswith(NO_ROOM)

    assert (await extender.filter(waiting, node))["NodeNames"] == [node]
    assert await extender.bind(waiting, node) == ""
    assert where(await site.pod("waiting")) == (node, (f"{node}-0",))
    await site.delete("waiting")
    assert await site.bound("other") == (node, (f"{node}-0",))


async def test_room_is_kept_no_longer_than_said(extender: Extender, site: Site) -> None:
    node = await site.add_node("7Gi")
    await extender.knows(node)
    await site.add_pod(a_pod("waiting"))
    await _nominate(site, "waiting", node=node, gpu=f"{node}-0", lasting=timedelta(seconds=3))
    await site.add_pod(a_pod("other"), scheduler=SCHEDULER_NAME)
    assert await site.bound("other") == (node, (f"{node}-0",))


async def test_where_the_kubelet_gave_other_gpus_the_ledger_follows_it_and_says_so(
    extender: Extender, site: Site
) -> None:
    node = await site.add_node("7Gi", "3Gi")
    await extender.knows(node)
    await site.add_pod(a_pod("chat"), scheduler=SCHEDULER_NAME)
    assert await site.bound("chat") == (node, (f"{node}-0",))
    await site.add_pod(a_pod("other"), scheduler=SCHEDULER_NAME)
    assert (await site.refusal("other")).startswith(NO_ROOM)
    before = await _drift(extender)

    # As after a kubelet that lost its checkpoint: the container's memory is on a GPU that nobody chose.
    pod = await site.pod("chat")
    grant = GrantOnNode(
        pod_uid=pod.uid,
        namespace=site.namespace,
        pod="chat",
        container="main",
        gpus=[f"{node}-1"],
        granted=3 << 30,
        held=3 << 30,
        movable=True,
        state=GrantState.MOVABLE,
    )
    gpus = a_node(node).gpu(f"{node}-0", "7Gi").gpu(f"{node}-1", "3Gi")
    await site.report(NodeBuilder(name=node, status=gpus.status.model_copy(update={"grants": [grant]})))
    assert await site.bound("other") == (node, (f"{node}-0",))
    assert await _drift(extender) == before + 1
    told = f"container uses other GPUs than its pod was bound with pod={site.namespace}/chat node={node}"
    assert extender.log.read_text().count(told) == 1


async def _nominate(site: Site, name: str, *, node: str, gpu: str, lasting: timedelta) -> None:
    """As the operator does once others were evicted for the pod."""
    kept = Nomination(node=NodeName(node), gpus=(GpuUuid(gpu),), until=datetime.now(UTC) + lasting)
    annotations = {a.NOMINATED: a.encode_nomination(kept)}
    await site.client.patch(PODS, name, {"metadata": {"annotations": annotations}}, namespace=site.namespace)


async def _claims(extender: Extender, node: str, expected: list[tuple[str, str]]) -> bool | None:
    there = await extender.claims(node)
    return True if [(pod.rpartition("/")[2], standing) for pod, standing in there] == expected else None


async def _drift(extender: Extender) -> float:
    _, metrics = await extender.get(f"http://{extender.health}/metrics")
    found = re.search(r"^arbiter_ledger_drift_total (\S+)$", metrics, re.MULTILINE)
    assert found is not None, metrics
    return float(found[1])
