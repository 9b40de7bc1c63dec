"""What becomes of a bind whose answer does not arrive: lost on the way, or nobody left to hear it."""

import asyncio

from arbiter_extender.binder import AT_ONCE
from tests.component.extender.support import Extender, Json, LossyApi, Site, eventually, where
from tests.unit.extender.builders import a_pod

LOST, ARRIVES = False, True


async def test_a_binding_whose_answer_is_lost_is_found_done(distant: Extender, lossy: LossyApi, site: Site) -> None:
    node, pod = await _filtered(distant, site)

    async def lose_the_first() -> bool:
        return LOST if lossy.bindings == 1 else ARRIVES

    lossy.reply = lose_the_first
    lossy.watching.clear()
    assert await distant.bind(pod, node) == ""
    assert where(await site.pod("chat")) == (node, (f"{node}-0",))
    assert lossy.bindings == 2


async def test_a_binding_that_the_watch_has_shown_needs_no_answer(
    distant: Extender, lossy: LossyApi, site: Site
) -> None:
    node, pod = await _filtered(distant, site)

    async def lose() -> bool:
        return LOST

    lossy.reply = lose
    assert await distant.bind(pod, node) == ""
    assert where(await site.pod("chat")) == (node, (f"{node}-0",))


async def test_a_binding_without_an_answer_keeps_its_room_and_goes_on(
    distant: Extender, lossy: LossyApi, site: Site
) -> None:
    node, pod = await _filtered(distant, site)
    other = await site.add_pod(a_pod("other"))
    lossy.carries_out = False
    assert await distant.bind(pod, node) == (
        f"the API server has not said within 4 s whether {site.namespace}/chat is bound to {node}; "
        "it is asked until it does."
    )
    assert (await distant.filter(other, node))["NodeNames"] == []
    lossy.carries_out = True
    assert await site.bound("chat") == (node, (f"{node}-0",))


async def test_killed_between_the_binding_and_its_answer_it_finds_the_pod_bound(
    distant: Extender, lossy: LossyApi, site: Site
) -> None:
    node, pod = await _filtered(distant, site)
    killed = asyncio.Event()

    async def die() -> bool:
        await asyncio.to_thread(distant.kill)
        killed.set()
        return LOST

    lossy.reply = die
    await asyncio.gather(distant.bind(pod, node), killed.wait(), return_exceptions=True)
    assert where(await site.pod("chat")) == (node, (f"{node}-0",))

    distant.start()
    await distant.ready()
    other = await site.add_pod(a_pod("other"))
    answer = await distant.filter(other, node)
    assert answer["FailedAndUnresolvableNodes"] == {node: "no GPU with room for the floor"}
    assert (await distant.filter(pod, node))["NodeNames"] == [node]
    assert await distant.bind(pod, node) == ""


async def test_killed_between_the_soft_hold_and_the_bind_it_chooses_again(
    distant: Extender, lossy: LossyApi, site: Site
) -> None:
    node, pod = await _filtered(distant, site)
    distant.kill()
    distant.start()
    await distant.ready()
    assert await distant.bind(pod, node) == ""
    assert where(await site.pod("chat")) == (node, (f"{node}-0",))


async def test_of_many_binds_a_few_are_under_way_at_a_time(distant: Extender, lossy: LossyApi, site: Site) -> None:
    node = await site.add_node("24Gi", "24Gi")
    names = [f"image-{number}" for number in range(2 * AT_ONCE)]
    pods = [await site.add_pod(a_pod(name).sizes(full="1Gi", floor="1Gi")) for name in names]
    await distant.knows(node)
    under_way, enough = [0], asyncio.Event()

    async def wait_for_others() -> bool:
        under_way.append(under_way[-1] + 1)
        if under_way[-1] == AT_ONCE:
            enough.set()
        await enough.wait()
        under_way.append(under_way[-1] - 1)
        return ARRIVES

    lossy.reply = wait_for_others
    assert {*await asyncio.gather(*(distant.bind(pod, node) for pod in pods))} == {""}
    assert max(under_way) == AT_ONCE


async def test_told_to_end_it_finishes_the_bind_under_way(distant: Extender, lossy: LossyApi, site: Site) -> None:
    node, pod = await _filtered(distant, site)
    under_way = asyncio.Event()

    async def take_a_while() -> bool:
        under_way.set()
        await asyncio.sleep(0.5)
        return ARRIVES

    lossy.reply = take_a_while
    bind = asyncio.create_task(distant.bind(pod, node))
    await under_way.wait()
    assert await asyncio.to_thread(distant.stop) == 0
    assert await bind == ""


async def test_without_an_api_server_it_is_not_ready_and_says_why(distant: Extender, lossy: LossyApi) -> None:
    distant.kill()
    await lossy.stop()
    distant.start()

    async def refused() -> tuple[int, Json] | None:
        status, text = await distant.get(f"http://{distant.health}/readyz")
        return (status, text) if status else None

    sentence = "The lists of pods, nodes, GpuNodes, QualityPolicies are not complete yet.\n"
    assert await eventually(refused, "answer") == (503, sentence)
    assert await distant.post("filter", {}) == (503, sentence)
    status, _ = await distant.get(f"http://{distant.health}/healthz")
    assert status == 200


async def _filtered(extender: Extender, site: Site) -> tuple[str, Json]:
    """A node with room for one pod, and that pod, whose room is held."""
    node = await site.add_node("7Gi")
    pod = await site.add_pod(a_pod("chat"))

    async def passes() -> bool | None:
        return True if (await extender.filter(pod, node))["NodeNames"] else None

    await eventually(passes, "room")
    return node, pod
