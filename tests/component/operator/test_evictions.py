from arbiter.units import MIB
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.resources import NODES, QUALITY_POLICIES
from tests.component.operator.support import Operator, Site

LLM = {"workload_type": "LlmInference", "vram_full": "10Gi", "vram_floor": "4Gi"}


async def test_who_gives_nothing_back_leaves_when_a_floor_waits_for_it(site: Site, operator: Operator) -> None:
    site.add_namespace("evictions")
    slow, new = ObjectKey("evictions", "slow"), ObjectKey("evictions", "new")
    async with site.node("evictions-1", usable=12288) as node:
        await site.bind(await site.add_pod(slow, **LLM), node)
        holder = await site.told(slow, "1.000")
        await node.grant(holder, 10240, quality=1.0, state="Overdue")
        newcomer = await site.add_pod(new, priority="Low", **LLM)
        await site.bind(newcomer, node)
        await node.gate(newcomer)

        await site.end(await site.leaving(slow))
        assert (await site.event(slow, "ShrinkOverdue")).message == (
            "was evicted: it still holds 10Gi on evictions-1/0 after its grace, and evictions/new waits for its floor"
        )
        await node.forget(holder)
        await site.end(newcomer)


async def test_who_takes_others_memory_leaves_where_the_policy_says_so(site: Site, operator: Operator) -> None:
    site.add_namespace("takers")
    greedy = ObjectKey("takers", "greedy")
    strict = {"overdue": "Evict", "shrinkGrace": "1s", "nodeSelector": {"strict": "yes"}, "weight": 1}
    await site.admin.create(QUALITY_POLICIES, {"metadata": {"name": "strict"}, "spec": strict})
    async with site.node("takers-1", usable=12288) as node:
        await site.admin.patch(NODES, node.name, {"metadata": {"labels": {"strict": "yes"}}})
        await site.bind(await site.add_pod(greedy, **LLM), node)
        pod = await site.told(greedy, "1.000")
        await node.grant(pod, 10240, quality=1.0)
        node.grants[pod.uid]["measured"] = 11264 * MIB
        await node.report()

        await site.end(await site.leaving(greedy))
        assert (await site.event(greedy, "MeasuredAboveGrant")).message == (
            "was evicted: it goes on using 11264Mi on takers-1/0 and may hold 10240Mi"
        )
    await site.admin.delete(QUALITY_POLICIES, "strict")
