"""What happens to a cluster day by day, with a real kube-scheduler: bursts, updates, drains, pods from elsewhere."""

from collections.abc import Awaitable, Callable

import pytest

from arbiter.ids import NodeName
from arbiter_kube.api import SCHEDULER_NAME, VRAM_RESOURCE
from arbiter_kube.api.resources import NODES, PODS
from tests.component.extender.support import Extender, Site, eventually, where
from tests.support.patience import PATIENCE
from tests.unit.extender.builders import a_pod

pytestmark = pytest.mark.usefixtures("scheduler")

NO_ROOM = "0/1 nodes are available: 1 no GPU with room for the floor."


async def test_forty_pods_at_once_are_bound_once_each_though_the_extender_is_killed_meanwhile(
    extender: Extender, site: Site
) -> None:
    node = await site.add_node("24Gi", "24Gi", "24Gi", "24Gi")
    await extender.knows(node)
    for number in range(40):
        image = a_pod(f"image-{number}").sizes(full="6Gi", floor="1843Mi")
        await site.add_pod(image, scheduler=SCHEDULER_NAME)
        if number == 20:
            extender.kill()
            extender.start()

    async def all_bound() -> bool | None:
        await site.wake()
        return True if (await site.places()).total() == 40 else None

    await eventually(all_bound, "forty bound pods", within=2 * PATIENCE)
    places = await site.places()
    assert all(len(gpus) == 1 for _, gpus in places)
    assert max(places.values()) <= 12, "floors of 2 units on GPUs of 24"


async def test_a_rolling_update_on_a_full_gpu_goes_pod_by_pod(extender: Extender, site: Site) -> None:
    node = await site.add_node("12Gi")
    await extender.knows(node)
    for number in range(3):
        await site.add_pod(a_pod(f"old-{number}"), scheduler=SCHEDULER_NAME)
        await site.bound(f"old-{number}")
    for number in range(3):
        await site.add_pod(a_pod(f"new-{number}"), scheduler=SCHEDULER_NAME)
        # The surge has no room while the old one is there, nor while it ends.
        assert (await site.refusal(f"new-{number}")).startswith("0/1 nodes are available: 1 ")
        await site.client.delete(PODS, f"old-{number}", namespace=site.namespace, grace=30)
        assert where(await site.pod(f"new-{number}")) is None
        await site.finish(f"old-{number}")
        assert await site.bound(f"new-{number}") == (node, (f"{node}-0",))
        await site.delete(f"old-{number}")
    assert await site.places() == {(node, (f"{node}-0",)): 3}


async def test_pods_of_a_drained_node_find_room_elsewhere_or_wait_for_its_return(
    extender: Extender, site: Site
) -> None:
    drained, other = await site.add_node("7Gi"), await site.add_node("7Gi")
    await extender.knows(drained, other)
    await site.client.patch(NODES, drained, {"spec": {"unschedulable": True}})
    for name in ("chat", "image"):
        await site.add_pod(a_pod(name), scheduler=SCHEDULER_NAME)
    refused = [name for name in ("chat", "image") if await _is_refused(site, name)]
    assert await site.places() == {(other, (f"{other}-0",)): 1}
    assert len(refused) == 1
    await site.client.patch(NODES, drained, {"spec": {"unschedulable": None}})
    assert await site.bound(refused[0]) == (drained, (f"{drained}-0",))


async def _is_refused(site: Site, name: str) -> bool:
    """What became of it, once that is known."""

    async def known() -> bool | None:
        if where(await site.pod(name)) is not None:
            return False
        return True if await site.events(name, "FailedScheduling") else None

    return await eventually(known, f"decision on {name}")


ODD: dict[str, Callable[[Site, str], Awaitable[None]]] = {
    "a pod that names its node": lambda site, node: site.add_odd_pod("odd", slices=4, node=node),
    "a static pod": lambda site, node: site.add_odd_pod("odd", slices=4, node=node, mirror=True),
    "a pod with the resource alone": lambda site, _: site.add_odd_pod("odd", slices=4),
}


@pytest.mark.parametrize("sentence", ODD)
async def test_an_odd_pod_takes_its_room(extender: Extender, site: Site, sentence: str) -> None:
    node = await site.add_node("7Gi", "3Gi")
    await extender.knows(node)
    await ODD[sentence](site, node)
    await site.bound("odd")
    await site.add_pod(a_pod("chat"), scheduler=SCHEDULER_NAME)
    assert (await site.refusal("chat")).startswith(NO_ROOM)
    await site.delete("odd")
    assert await site.bound("chat") == (node, (f"{node}-0",))


async def test_a_pod_of_another_scheduler_takes_its_room(extender: Extender, site: Site) -> None:
    node = await site.add_node("7Gi", "3Gi")
    await extender.knows(node)
    foreign = await site.add_pod(a_pod("foreign"))
    key, uid = site.key("foreign"), foreign["metadata"]["uid"]
    await site.client.bind(key, uid=uid, node=NodeName(node), annotations={}, within=10)
    await site.add_pod(a_pod("chat"), scheduler=SCHEDULER_NAME)
    assert (await site.refusal("chat")).startswith(NO_ROOM)


async def test_a_node_that_offers_nothing_gets_nothing(extender: Extender, site: Site) -> None:
    # So does the agent where somebody else offers the same GPUs, and the kubelet once the agent is gone.
    node = await site.add_node("12Gi")
    await extender.knows(node)
    nothing = {"status": {"allocatable": {VRAM_RESOURCE: "0"}}}
    await site.client.patch(NODES, node, nothing, subresource="status")
    await site.add_pod(a_pod("chat"), scheduler=SCHEDULER_NAME)
    assert (await site.refusal("chat")).startswith(f"0/1 nodes are available: 1 Insufficient {VRAM_RESOURCE}.")
    again = {"status": {"allocatable": {VRAM_RESOURCE: "12"}}}
    await site.client.patch(NODES, node, again, subresource="status")
    assert await site.bound("chat") == (node, (f"{node}-0",))
