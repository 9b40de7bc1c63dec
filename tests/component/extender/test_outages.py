"""The API server goes away, forgets versions, or the extender is killed: what it says afterwards is true again."""

import asyncio
import os

from tests.component.extender.support import Extender, LossyApi, Site, eventually, where
from tests.unit.extender.builders import a_pod

AWAY_SECONDS = float(os.environ.get("ARBITER_AWAY_SECONDS", "3"))
"""`make soak` has it 60."""


async def test_while_the_api_server_is_away_it_answers_from_memory_and_afterwards_from_the_truth(
    distant: Extender, lossy: LossyApi, site: Site
) -> None:
    full, empty = await site.add_node("7Gi"), await site.add_node("7Gi")
    await distant.knows(full, empty)
    chat, other, late = [await site.add_pod(a_pod(name)) for name in ("chat", "other", "late")]
    assert await distant.bind(chat, full) == ""

    lossy.is_away = True
    lossy.end_watches()
    binding = asyncio.create_task(distant.bind(other, empty))
    await site.delete("chat")
    await asyncio.sleep(AWAY_SECONDS)
    assert (await distant.filter(late, full, empty))["NodeNames"] == []
    assert await distant.get(f"http://{distant.health}/readyz") == (200, "ok\n")

    lossy.is_away = False
    assert (await binding) in ("", _no_answer_yet(site, empty))
    assert await site.bound("other") == (empty, (f"{empty}-0",))

    async def room() -> bool | None:
        return True if (await distant.filter(late, full, empty))["NodeNames"] == [full] else None

    await eventually(room, "room that a deleted pod left")


def _no_answer_yet(site: Site, node: str) -> str:
    return (
        f"the API server has not said within 4 s whether {site.namespace}/other is bound to {node}; "
        "it is asked until it does."
    )


async def test_a_pod_that_went_while_its_version_expired_leaves_its_room(
    distant: Extender, lossy: LossyApi, site: Site
) -> None:
    node = await site.add_node("7Gi")
    await distant.knows(node)
    chat, other = await site.add_pod(a_pod("chat")), await site.add_pod(a_pod("other"))
    assert await distant.bind(chat, node) == ""
    lossy.watching.clear()
    await site.delete("chat")
    assert (await distant.filter(other, node))["NodeNames"] == []
    lossy.expired |= {"pods", "gpunodes"}
    lossy.end_watches()
    lossy.watching.set()

    async def room() -> bool | None:
        return True if (await distant.filter(other, node))["NodeNames"] else None

    await eventually(room, "room that a deleted pod left")
    assert lossy.expired == set()


async def test_killed_before_its_binding_arrived_it_binds_when_it_is_asked_again(
    distant: Extender, lossy: LossyApi, site: Site
) -> None:
    node = await site.add_node("7Gi")
    await distant.knows(node)
    pod = await site.add_pod(a_pod("chat"))
    lossy.carries_out = False
    under_way = asyncio.create_task(distant.bind(pod, node))

    async def sent() -> bool | None:
        return True if lossy.refused else None

    await eventually(sent, "Binding on its way")
    distant.kill()
    await asyncio.gather(under_way, return_exceptions=True)
    lossy.carries_out = True
    assert where(await site.pod("chat")) is None

    distant.start()
    await distant.ready()
    assert await distant.bind(pod, node) == ""
    assert where(await site.pod("chat")) == (node, (f"{node}-0",))
    assert lossy.bindings == 1
