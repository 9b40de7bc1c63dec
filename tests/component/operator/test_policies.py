"""QualityPolicies that change while pods run, told by the targets of chat and posters in the golden figures."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.resources import NODES, QUALITY_POLICIES
from hack.cluster.chart import render
from hack.cluster.controlplane import ControlPlane
from tests.component.operator.conftest import apply
from tests.component.operator.support import Node, Operator, Site

CHAT = {"workload_type": "LlmInference", "priority": "High", "vram_full": "10Gi", "vram_floor": "4Gi"}
POSTERS = {
    "workload_type": "ImageGeneration",
    "priority": "Background",
    "vram_full": "6Gi",
    "vram_floor": "1843Mi",
    "quality_minimum": "0.3",
}


@asynccontextmanager
async def chat_runs(site: Site, namespace: str) -> AsyncIterator[tuple[Node, Pod]]:
    """A node of 12 GiB that chat has for itself."""
    site.add_namespace(namespace)
    async with site.node(f"{namespace}-1", usable=12288) as node:
        chat = await site.add_pod(ObjectKey(namespace, "chat"), **CHAT)
        await site.bind(chat, node)
        await node.grant(await site.told(chat.key, "1.000", revision=1), 10240, quality=1.0)
        yield node, chat
        await site.end(chat)


async def test_under_fixed_who_runs_keeps_its_size_and_moves_again_in_another_mode(
    site: Site, operator: Operator
) -> None:
    of_one_node = {"mode": "Fixed", "nodeSelector": {"sized": "once"}, "weight": 1}
    await site.admin.create(QUALITY_POLICIES, {"metadata": {"name": "once"}, "spec": of_one_node})
    async with chat_runs(site, "fixed") as (node, chat):
        await site.admin.patch(NODES, node.name, {"metadata": {"labels": {"sized": "once"}}})
        posters = await site.add_pod(ObjectKey("fixed", "posters"), **POSTERS)
        await site.bind(posters, node)
        told = await site.annotated(posters.key, a.VRAM_TARGET)
        assert told == "2045Mi", "what chat leaves it, in thousandths of quality"
        await node.grant(posters, 2045, quality=0.333)
        await site.told(chat.key, "1.000", revision=1)

        await site.admin.patch(QUALITY_POLICIES, "once", {"spec": {"mode": "Adaptive"}})
        await site.told(chat.key, "0.904", revision=2)
        await site.told(posters.key, "0.493", revision=2)
        await site.end(posters)
    await site.admin.delete(QUALITY_POLICIES, "once")


async def test_without_the_policy_default_the_fields_defaults_hold(
    site: Site, operator: Operator, control_plane: ControlPlane
) -> None:
    async with chat_runs(site, "undone") as (node, chat):
        posters = await site.add_pod(ObjectKey("undone", "posters"), **POSTERS)
        await site.bind(posters, node)
        await site.told(chat.key, "0.904")
        await site.admin.patch(QUALITY_POLICIES, "default", {"spec": {"mode": "DiffusionFirst"}})
        await site.told(chat.key, "0.780")
        await site.told(posters.key, "0.700")

        await site.admin.delete(QUALITY_POLICIES, "default")
        await site.told(chat.key, "0.904")
        await site.told(posters.key, "0.493")
        apply(control_plane, [one for one in render() if one["kind"] == "QualityPolicy"])
        await site.end(posters)
