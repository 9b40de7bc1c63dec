import pytest

from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import ObjectKey
from tests.component.operator.support import Operator, Site

RIGID = {"workload_type": "ImageGeneration", "vram_full": "8Gi", "vram_floor": "8Gi"}


async def test_a_more_important_pod_gets_the_room_of_a_lesser_one(site: Site, operator: Operator) -> None:
    site.add_namespace("preemption")
    posters, poster = ObjectKey("preemption", "posters"), ObjectKey("preemption", "poster-0")
    await site.add_allocation(
        posters, workloadType="ImageGeneration", priority="Background", vram={"full": "8Gi", "floor": "8Gi"}
    )
    async with site.node("preemption-1", usable=12288) as node:
        victim = await site.add_pod(poster, allocation="posters")
        await site.bind(victim, node)
        await site.told(poster, "1.000")
        await node.grant(await site.pod(poster), 8192, quality=1.0, state="Held")

        first = ObjectKey("preemption", "important")
        waiting = await site.add_pod(first, priority="High", **RIGID)
        await site.refuse(waiting)

        kept = a.decode_nomination(await site.annotated(first, a.NOMINATED))
        assert (kept.node, kept.gpus) == (node.name, (node.gpu,))

        message = "was evicted for preemption/important (High), which needs 8Gi on preemption-1/0"
        assert (await site.event(poster, "Preempted")).message == message
        assert (await site.event(first, "Preempting")).message == (
            "gets room on preemption-1/0: preemption/poster-0 (Background) was evicted for it"
        )
        await site.allocation(posters, phase="Preempted")
        assert await site.condition(posters, "Placed", "False") == f"poster-0 {message}"

        await site.end(await site.leaving(poster))
        assert a.WAKE not in (await site.pod(first)).metadata.annotations, "its node has not confirmed the bytes yet"
        await node.forget(victim)
        await site.annotated(first, a.WAKE)
        await site.bind(waiting, node)
        await site.told(first, "1.000")
        await site.end(waiting)


@pytest.mark.parametrize("budgets", [1, 2])
async def test_a_protected_pod_is_not_evicted(budgets: int, site: Site, operator: Operator) -> None:
    where = f"protected-{budgets}"
    site.add_namespace(where)
    poster, first = ObjectKey(where, "poster-0"), ObjectKey(where, "important")
    for budget in range(budgets):
        site.kubectl("create", "pdb", f"kept-{budget}", f"-n={where}", "--selector=app=kept", "--min-available=1")
    async with site.node(where, usable=12288) as node:
        victim = await site.add_pod(poster, app="kept", priority="Background", **RIGID)
        await site.bind(victim, node)
        await site.enter(victim, "Running")
        waiting = await site.add_pod(first, priority="High", **RIGID)
        await site.refuse(waiting)
        said = (await site.event(first, "VramWaiting")).message
        assert said == f"needs 8Gi on one GPU; {where}/0 has 4Gi, and 12Gi once {where}/poster-0 (Background) ends"
        await operator.logs(f"pod protected from eviction pod={poster}")
        assert a.NOMINATED not in (await site.pod(first)).metadata.annotations
        assert not (await site.pod(poster)).is_terminating
        for pod in (victim, waiting):
            await site.end(pod)
