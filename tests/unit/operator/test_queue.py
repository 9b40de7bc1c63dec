"""The queue alone: what many cost, whom they keep waiting, and whose status it has looked at."""

import asyncio
from collections.abc import Set
from dataclasses import replace
from typing import cast

from arbiter.ids import NodeName, PodUid
from arbiter.units import GIB, MIB
from arbiter_kube.api.objects import Condition, Node, NodeStatus, ObjectKey, ObjectMeta
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.client.events import EventRecorder
from arbiter_operator.cluster import Cluster
from arbiter_operator.history import History
from arbiter_operator.protected import Protected
from arbiter_operator.queue import Queue
from arbiter_operator.rooms import Rooms
from arbiter_operator.writer import Writer
from tests.support import virtual_time
from tests.unit.operator.builders import allocation, demand, gpu_pod, on_node, report
from tests.unit.operator.support import Api, Told

TENANT = gpu_pod("tenant", of=demand(full=12 * GIB, floor=12 * GIB))


class Asked(Protected):
    """Counts how often it was asked whom nobody may evict: once for each plan of an eviction."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def at(self, now: float) -> Set[PodUid]:
        self.times += 1
        return super().at(now)


class Scene:
    """One GPU that is full, and a queue."""

    def __init__(self) -> None:
        self.cluster = Cluster(unit=GIB)
        self.api = Api(self.cluster)
        ready = NodeStatus(conditions=(Condition(type="Ready", status="True"),))
        self.cluster.node_applied(Node(metadata=ObjectMeta(name="gpu-1"), status=ready))
        self.api.report("gpu-1", report(on_node(TENANT, 12 * 1024)))
        self.api.show(TENANT)
        self.asked = Asked()
        self.queue = Queue(
            self.cluster,
            writer=cast("Writer", self.api),
            recorder=cast("EventRecorder", Told()),
            history=History(),
            rooms=Rooms(unit=GIB),
            protected=self.asked,
            clock=asyncio.get_running_loop().time,
        )

    def wait(self, *pods: GpuPod) -> None:
        """Kube-scheduler found no room for them."""
        for pod in pods:
            self.api.show(pod, conditions=(Condition(type="PodScheduled", status="False"),))

    async def turns(self) -> int:
        """How many turns others have while it looks at everybody who waits."""
        look, turns = asyncio.create_task(self.queue.reconcile()), 0
        while not look.done():
            await asyncio.sleep(0)
            turns += 1
        return turns


def waiting(number: int, *, more: int = 0) -> GpuPod:
    """One that asks for as many MiB more."""
    return gpu_pod(f"chat-{number:03}", of=demand(floor=4 * GIB + more * MIB), node=None, allocation=None)


def test_others_have_their_turn_while_many_who_wait_are_looked_at() -> None:
    async def story() -> None:
        at = Scene()
        at.wait(*(waiting(number, more=number) for number in range(100)))
        assert await at.turns() > 200, "for each one when what it lacks is known, and who might leave for it"
        assert (len(at.queue.waits), at.asked.times) == (100, 100)

    virtual_time.run(story())


def test_for_replicas_that_nobody_can_leave_for_that_is_found_out_once() -> None:
    async def story() -> None:
        at = Scene()
        at.wait(*(waiting(number) for number in range(100)))
        await at.queue.reconcile()
        assert (len(at.queue.waits), at.asked.times) == (100, 1)

    virtual_time.run(story())


def test_nobody_leaves_for_one_that_found_room_while_others_were_looked_at() -> None:
    async def story() -> None:
        at = Scene()
        at.api.show(gpu_pod("tenant", of=demand(priority="Background", full=12 * GIB, floor=12 * GIB)))
        pod = waiting(0)
        at.wait(pod)
        look = asyncio.create_task(at.queue.reconcile())
        await asyncio.sleep(0)
        at.api.show(replace(pod, node=NodeName("elsewhere")))
        await look
        assert at.asked.times == 1, "by what was so at first the tenant would leave"

    virtual_time.run(story())


def test_an_allocation_is_looked_at_whenever_a_pod_of_it_has_waited_for_too_long() -> None:
    async def story() -> None:
        at = Scene()
        chat = ObjectKey("team-a", "chat")
        at.wait(gpu_pod("chat-0", node=None))

        async def is_looked_at(*, after: float) -> bool:
            at.cluster.forget_changes()
            await asyncio.sleep(after)
            await at.queue.reconcile()
            return chat in at.cluster.changed_allocations

        at.cluster.allocation_applied(allocation("chat", timeout="30s"))
        assert await is_looked_at(after=10), "it waits"
        assert not await is_looked_at(after=10)
        assert await is_looked_at(after=10), "for too long"
        at.cluster.allocation_applied(allocation("chat", generation=2, timeout="2m"))
        assert await is_looked_at(after=10), "for longer than that it may"
        assert not await is_looked_at(after=10)
        assert await is_looked_at(after=100), "and has"

    virtual_time.run(story())
