"""A real kube-scheduler asks the extender. Nodes and what their agents say are written by the test."""

import asyncio
from collections import Counter

import pytest

from arbiter_kube.api import SCHEDULER_NAME
from tests.component.extender.support import Extender, Site, eventually, where
from tests.unit.extender.builders import a_pod

pytestmark = pytest.mark.usefixtures("scheduler")


async def test_a_pod_is_bound_with_a_gpu(extender: Extender, site: Site) -> None:
    node = await site.add_node("12Gi")
    await extender.knows(node)
    await site.add_pod(a_pod("chat"), scheduler=SCHEDULER_NAME)
    assert await site.bound("chat") == (node, (f"{node}-0",))


async def test_a_pod_of_two_gpus_is_bound_with_both(extender: Extender, site: Site) -> None:
    other, node = await site.add_node("12Gi"), await site.add_node("12Gi", "12Gi")
    await extender.knows(other, node)
    await site.add_pod(a_pod("wide").gpus(2), scheduler=SCHEDULER_NAME)
    assert await site.bound("wide") == (node, (f"{node}-0", f"{node}-1"))


async def test_of_two_nodes_the_one_is_taken_where_less_quality_is_lost(extender: Extender, site: Site) -> None:
    nodes = [await site.add_node("12Gi") for _ in range(2)]
    await extender.knows(*nodes)
    for name in ("first", "second"):
        await site.add_pod(a_pod(name), scheduler=SCHEDULER_NAME)
        await site.bound(name)
    assert {(await site.bound(name))[0] for name in ("first", "second")} == {*nodes}


async def test_a_pod_that_does_not_fit_waits_with_the_reason_and_is_bound_when_room_appears(
    extender: Extender, site: Site
) -> None:
    # Five of eight units are free, but on no single GPU.
    node = await site.add_node("4Gi", "4Gi")
    await extender.knows(node)
    small = a_pod("small").sizes(full="2Gi", floor="2Gi")
    await site.add_pod(small, scheduler=SCHEDULER_NAME)
    await site.bound("small")
    await site.add_pod(a_pod("one").sizes(full="1Gi", floor="1Gi").gpus(2), scheduler=SCHEDULER_NAME)
    await site.bound("one")
    await site.add_pod(a_pod("chat"), scheduler=SCHEDULER_NAME)
    message = await site.refusal("chat")
    assert message.startswith("0/1 nodes are available: 1 no GPU with room for the floor.")
    assert where(await site.pod("chat")) is None

    await site.delete("one")
    (_, (freed,)) = await site.bound("chat")
    assert freed != (await site.bound("small"))[1][0]
    assert (await site.bound("chat"))[0] == node


async def test_twenty_pods_at_once_never_share_a_slice(extender: Extender, site: Site) -> None:
    node = await site.add_node("12Gi", "12Gi")
    await extender.knows(node)
    for number in range(20):
        image = a_pod(f"image-{number}").sizes(full="6Gi", floor="1843Mi")
        await site.add_pod(image, scheduler=SCHEDULER_NAME)

    async def twelve() -> list[tuple[str, tuple[str, ...]]] | None:
        places = [place for pod in await site.pods() if (place := where(pod)) is not None]
        return places if len(places) >= 12 else None

    places = await eventually(twelve, "twelve bound pods")
    expected = {(node, (f"{node}-0",)): 6, (node, (f"{node}-1",)): 6}
    assert Counter(places) == expected

    # Each that ends makes room for one more, until all have been there.
    for rounds in range(8):
        first = next(pod.metadata.name for pod in await site.pods() if where(pod) is not None)
        await site.delete(first)

        async def refilled(left: int = 19 - rounds) -> Counter[tuple[str, tuple[str, ...]]] | None:
            await site.wake()
            pods = await site.pods()
            places = [place for pod in pods if (place := where(pod)) is not None]
            assert max(Counter(places).values()) <= 6
            return Counter(places) if len(places) == 12 and len(pods) == left else None

        assert await eventually(refilled, "twelfth pod") == expected


async def test_a_pod_that_never_fits_is_told_so_and_asked_about_no_more(extender: Extender, site: Site) -> None:
    await extender.knows(await site.add_node("3Gi", "3Gi"))
    await site.add_pod(a_pod("chat"), scheduler=SCHEDULER_NAME)
    message = await site.refusal("chat")
    assert message.startswith("0/1 nodes are available: 1 no GPU as large as the floor.")
    before = await _filters(extender)
    await asyncio.sleep(2)
    # A text that changed would make the pod wake itself: hundreds of calls.
    assert await _filters(extender) - before <= 2


async def _filters(extender: Extender) -> float:
    _, metrics = await extender.get(f"http://{extender.health}/metrics")
    name = 'arbiter_extender_request_seconds_count{verb="filter"} '
    return float(next(line for line in metrics.splitlines() if line.startswith(name)).removeprefix(name))
