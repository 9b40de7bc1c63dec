from pathlib import Path

import pytest

from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.resources import GPU_ALLOCATIONS, PODS, QUALITY_POLICIES
from arbiter_kube.client import ApiError
from tests.component.operator.support import Operator, Site

LLM = {"workloadType": "LlmInference", "vram": {"full": "10Gi", "floor": "4Gi"}}


async def versions(site: Site, namespace: str) -> dict[str, str]:
    """Every object of the namespace that the operator writes, and every policy, with its version."""
    pods = await site.admin.list(PODS, namespace=namespace)
    allocations = await site.admin.list(GPU_ALLOCATIONS, namespace=namespace)
    listed = [
        *((pod.metadata.name, pod.metadata.resource_version) for pod in pods),
        *((one.metadata.name, one.metadata.resource_version) for one in allocations),
        *((one.metadata.name, one.metadata.resource_version) for one in await site.admin.list(QUALITY_POLICIES)),
    ]
    return dict(listed)


async def test_killed_and_started_again_it_writes_nothing_where_nothing_changed(site: Site, operator: Operator) -> None:
    site.add_namespace("outage")
    key = ObjectKey("outage", "steady")
    await site.add_allocation(key, **LLM)
    async with site.node("outage-1", usable=12288) as node:
        pods = [ObjectKey("outage", f"steady-{index}") for index in range(2)]
        for pod in pods:
            await site.bind(await site.add_pod(pod, allocation="steady"), node)
        for pod in pods:
            await node.grant(await site.told(pod, "0.600"), 6144, quality=0.6)
        await site.allocation(key, phase="Reduced", pods="2/2", quality=0.6)
        assert await site.condition(key, "Converged", "True") == "2 pods applied their targets"
        before = await versions(site, "outage")

        operator.kill()
        operator.start()
        await operator.ready()
        # It answers for what is new, so it has looked at what is old.
        async with site.node("outage-2", usable=12288) as other:
            late = await site.add_pod(ObjectKey("outage", "late"), workload_type="LlmInference")
            await site.bind(late, other)
            await site.told(ObjectKey("outage", "late"), "1.000")
            after = await versions(site, "outage")
            changed = {name for name in before if after[name] != before[name]}
            assert changed <= {"default"}, "the policy alone counts another node"
            await site.end(late)
        for pod in pods:
            await site.end(await site.pod(pod))


async def test_while_it_is_down_only_pods_that_ask_for_memory_are_refused(site: Site, operator: Operator) -> None:
    site.add_namespace("down")
    operator.kill()
    try:
        await site.add_pod(ObjectKey("down", "plain"))
        with pytest.raises(ApiError, match=r"failed calling webhook \"pods\.arbiter\.infernum\.io\""):
            await site.add_pod(ObjectKey("down", "ours"), workload_type="LlmInference")
    finally:
        operator.start()
        await operator.ready()
    assert (await site.add_pod(ObjectKey("down", "ours"), workload_type="LlmInference")).uid


async def test_a_second_replica_is_ready_and_follows_a_leader_that_was_killed(
    site: Site, operator: Operator, tmp_path: Path
) -> None:
    site.add_namespace("replicas")
    second = operator.replica(tmp_path / "log")
    second.start()
    await second.ready()
    pods = [await site.add_pod(ObjectKey("replicas", f"chat-{i}"), workload_type="LlmInference") for i in range(2)]
    async with site.node("replicas-1", usable=24576) as node:
        await site.bind(pods[0], node)
        await site.told(pods[0].key, "1.000")
        operator.kill()
        await site.bind(pods[1], node)
        await site.told(pods[1].key, "1.000")
        operator.start()
        await operator.ready()
        assert second.stop() == 0
        for pod in pods:
            await site.end(pod)


async def test_it_goes_on_after_the_api_server_was_away(site: Site, operator: Operator) -> None:
    site.add_namespace("away")
    site.control_plane.stop_apiserver()
    site.control_plane.start_apiserver()
    async with site.node("away-1", usable=12288) as node:
        key = ObjectKey("away", "chat")
        await site.add_allocation(key, **LLM)
        first = ObjectKey("away", "chat-0")
        await site.bind(await site.add_pod(first, allocation="chat"), node)
        await site.told(first, "1.000")
        await site.allocation(key, phase="Pending", pods="0/1", quality=1.0)
        await site.end(await site.pod(first))


async def test_an_edit_reaches_running_pods_where_the_floor_still_fits(site: Site, operator: Operator) -> None:
    site.add_namespace("edits")
    key, first = ObjectKey("edits", "edited"), ObjectKey("edits", "edited-0")
    await site.add_allocation(key, **LLM)
    async with site.node("edits-1", usable=12288) as node:
        await site.bind(await site.add_pod(first, allocation="edited"), node)
        await site.told(first, "1.000", revision=1)
        smaller = {"spec": {"vram": {"full": "8Gi"}}}
        await site.admin.patch(GPU_ALLOCATIONS, key.name, smaller, namespace=key.namespace)
        pod = await site.told(first, "1.000", revision=2)
        assert pod.metadata.annotations[a.VRAM_TARGET] == "8192Mi"
        assert a.decode_demand(pod.metadata.annotations[a.DEMAND]).generation == 2

        larger = {"spec": {"vram": {"floor": "6Gi"}}}
        await site.admin.patch(GPU_ALLOCATIONS, key.name, larger, namespace=key.namespace)
        needed = await site.condition(key, "RestartNeeded", "True")
        assert needed == "edited-0 reserved 4Gi, floor 6Gi is asked for; restart to apply"
        await site.end(pod)


async def test_a_contradiction_that_no_schema_sees_is_told_on_the_allocation(site: Site, operator: Operator) -> None:
    site.add_namespace("nonsense")
    key = ObjectKey("nonsense", "poor")
    await site.add_allocation(key, workloadType="LlmInference", quality={"minimum": 0.1})
    message = await site.condition(key, "Accepted", "False")
    assert message == (
        "spec.quality.minimum 0.100 is below 0.400, the least quality of LlmInference; raise it or leave it out."
    )
    assert (await site.event(key, "InvalidDemand")).message == message


async def test_an_allocation_that_nobody_uses_yet_says_where_a_pod_would_go(site: Site, operator: Operator) -> None:
    site.add_namespace("unused")
    key = ObjectKey("unused", "later")
    async with site.node("unused-1", usable=12288):
        await site.add_allocation(key, **LLM)
        assert await site.condition(key, "Placeable", "True") == "would get 1.000 (10240Mi) on unused-1/0"
    assert await site.condition(key, "Placeable", "False") == (
        "needs 4Gi on one GPU; no node that takes it reports a healthy GPU"
    )


async def test_a_waiting_pod_is_told_what_is_missing_and_woken_when_room_appears(
    site: Site, operator: Operator
) -> None:
    site.add_namespace("waiting")
    key, first = ObjectKey("waiting", "big"), ObjectKey("waiting", "big-0")
    await site.add_allocation(key, workloadType="VideoGeneration", vram={"full": "24Gi", "floor": "10Gi"}, noWait=True)
    async with site.node("waiting-1", usable=6144) as node:
        pod = await site.add_pod(first, allocation="big")
        await site.refuse(pod)
        missing = "needs 10Gi on one GPU; the largest, waiting-1/0, has 6Gi in all"
        assert (await site.event(first, "VramWaiting")).message == missing
        assert (await site.event(key, "VramTimeout")).message == (
            f"big-0 still waiting after 0s; stays queued: {missing}"
        )
        await site.allocation(key, phase="Waiting", pods="0/1", quality=None)
        assert await site.condition(key, "Placed", "False") == f"big-0 {missing}"

        node.usable = 12288
        await node.report()
        await site.annotated(first, a.WAKE)
        await site.bind(pod, node)
        assert (await site.event(first, "VramFound")).message == "10Gi free on waiting-1/0"
        await site.end(pod)
