import json
from collections.abc import Iterator
from typing import Any

import pytest

from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.resources import GPU_ALLOCATIONS, PODS, QUALITY_POLICIES
from arbiter_kube.client import ApiError
from tests.component.operator.support import Operator, Site, eventually

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


async def test_pods_outlive_their_allocation_and_heed_one_that_is_made_anew_under_its_name(
    site: Site, operator: Operator
) -> None:
    site.add_namespace("anew")
    key, first, second = (ObjectKey("anew", name) for name in ("chat", "chat-0", "chat-1"))
    await site.add_allocation(key, **LLM)
    async with site.node("anew-1", usable=12288) as node:
        for pod in (first, second):
            await site.bind(await site.add_pod(pod, allocation="chat"), node)
        await site.told(first, "0.600")
        await site.admin.delete(GPU_ALLOCATIONS, key.name, namespace=key.namespace)
        await site.end(await site.pod(second))
        alone = await site.told(first, "1.000")
        assert alone.metadata.annotations[a.VRAM_TARGET] == "10240Mi"

        await site.add_allocation(key, workloadType="LlmInference", vram={"full": "8Gi", "floor": "4Gi"})
        await site.allocation(key, pods="0/1", quality=1.0)

        async def smaller() -> bool | None:
            return True if (await site.annotated(first, a.VRAM_TARGET)) == "8192Mi" else None

        await eventually(smaller, "target of the new allocation")
        await site.end(await site.pod(first))


async def test_it_writes_targets_and_status_and_leaves_no_other_trace(site: Site, operator: Operator) -> None:
    site.add_namespace("traces")
    key, first = ObjectKey("traces", "chat"), ObjectKey("traces", "chat-0")
    await site.add_allocation(key, **LLM)
    async with site.node("traces-1", usable=12288) as node:
        await site.bind(await site.add_pod(first, allocation="chat"), node)
        await node.grant(await site.told(first, "1.000"), 10240, quality=1.0)
        await site.allocation(key, phase="Running")
        assert written_by_the_operator(site, "gpuallocation/chat") == {"status"}
        assert written_by_the_operator(site, "qualitypolicy/default") == {"status"}
        assert written_by_the_operator(site, "pod/chat-0") == {*map(annotation, TOLD)}
        await site.end(await site.pod(first))


TOLD = (a.QUALITY_TARGET, a.VRAM_TARGET, a.PRESSURE, a.REVISION, a.GRANT)


def annotation(key: str) -> str:
    return f"metadata.annotations.{key}"


def written_by_the_operator(site: Site, thing: str) -> set[str]:
    """The fields that the API server says are the operator's: of metadata each by itself."""
    output = ("--namespace=traces", "--show-managed-fields", "--output=json")
    metadata = json.loads(site.kubectl("get", thing, *output))["metadata"]
    assert "finalizers" not in metadata
    fields = [each["fieldsV1"] for each in metadata["managedFields"] if each["manager"] == "arbiter-operator"]
    return {name for each in fields for name in _names(each)}


def _names(fields: dict[str, Any]) -> Iterator[str]:
    for name, below in fields.items():
        if name == "f:metadata":
            yield from (
                f"metadata.annotations.{key.removeprefix('f:')}" for key in below["f:annotations"] if key != "."
            )
        else:
            yield name.removeprefix("f:")


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
