from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import ObjectKey
from tests.component.operator.support import Operator, Site

CHAT, POSTERS = ObjectKey("team-a", "chat"), ObjectKey("team-b", "posters")
FIRST, SECOND = ObjectKey("team-a", "chat-0"), ObjectKey("team-b", "posters-0")


async def test_chat_and_posters_share_12_gibibytes_as_the_golden_figures_say(site: Site, operator: Operator) -> None:
    site.add_namespace("team-a")
    site.add_namespace("team-b")
    await site.add_allocation(CHAT, workloadType="LlmInference", priority="High", vram={"full": "10Gi", "floor": "4Gi"})
    await site.add_allocation(
        POSTERS, workloadType="ImageGeneration", priority="Background", vram={"full": "6Gi", "floor": "1843Mi"}
    )
    async with site.node("gpu-1", usable=12288) as node:
        chat = await site.add_pod(FIRST, allocation="chat")
        assert chat.spec.containers[0].resources.limits == {"arbiter.infernum.io/vram": "4"}
        await site.bind(chat, node)
        chat = await site.told(FIRST, "1.000")
        assert chat.metadata.annotations[a.VRAM_TARGET] == "10240Mi"
        await node.grant(chat, 10240, quality=1.0)
        await site.allocation(CHAT, phase="Running", pods="1/1", quality=1.0)

        posters = await site.add_pod(SECOND, allocation="posters")
        await site.bind(posters, node)
        chat, posters = await site.told(FIRST, "0.904", revision=2), await site.told(SECOND, "0.493", revision=1)
        assert [pod.metadata.annotations[a.VRAM_TARGET] for pod in (chat, posters)] == ["9256Mi", "3028Mi"]
        assert {pod.metadata.annotations[a.PRESSURE] for pod in (chat, posters)} == {"High"}
        reduced = await site.event(CHAT, "QualityReduced")
        assert reduced.message == ("chat-0 1.000 -> 0.904 (9256Mi): team-b/posters (Background) joined gpu-1/0")
        await node.grant(chat, 9256, quality=0.904)
        await node.grant(posters, 3028, quality=0.493)
        await site.allocation(CHAT, phase="Reduced", pods="1/1", quality=0.904)
        await site.allocation(POSTERS, phase="Reduced", pods="1/1", quality=0.493)
        met = await site.condition(CHAT, "QualityMet", "True")
        assert met == "0.904 of 1.000, minimum 0.400: 1 pod shares gpu-1/0 with team-b/posters"
        assert (await site.condition(CHAT, "Converged", "True")).startswith("revision 2 applied ")
        listed = site.kubectl("get", "gpuallocations", "--all-namespaces", "--no-headers").split()
        assert {"0.904", "0.493", "Reduced", "1/1"} <= {*listed}

        await site.finish(posters)
        await node.forget(posters)
        chat = await site.told(FIRST, "1.000", revision=3)
        restored = await site.event(FIRST, "QualityRestored")
        assert restored.message == "0.904 -> 1.000 (10240Mi): team-b/posters (Background) left gpu-1/0"
