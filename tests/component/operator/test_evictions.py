from arbiter_kube.api.objects import ObjectKey
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
