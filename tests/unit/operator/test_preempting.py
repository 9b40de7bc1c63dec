"""A preemption as the engine carries it out, with an API server that fails and a watch that is late."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from arbiter.units import GIB
from arbiter_kube.api.gpunode import GrantOnNode
from arbiter_kube.api.objects import Condition, Node, NodeStatus, ObjectKey, ObjectMeta
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.client import EvictionRefused, Unreachable
from arbiter_operator.cluster import Cluster
from tests.support import virtual_time
from tests.unit.operator import support
from tests.unit.operator.builders import allocation, demand, gpu_pod, on_node, report

POSTERS = ObjectKey("team-a", "posters")
VICTIM = gpu_pod("poster-0", of=demand(priority="Background", full=8 * GIB, floor=8 * GIB), allocation="posters")
WAITING = gpu_pod("big", of=demand(floor=8 * GIB), node=None, allocation=None)
WAITING_FOR_ALL = gpu_pod("big", of=demand(full=12 * GIB, floor=12 * GIB), node=None, allocation=None)
MESSAGE = "poster-0 was evicted for team-a/big (High), which needs 8Gi on gpu-1/0"


class Api(support.Api):
    """Fails the next `absent` evictions, and lets `disruptions` pods leave; whom it is asked to evict is in `asked`.

    Those in `confused` have two budgets.
    """

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.absent = 0
        self.disruptions = 100
        self.asked: list[str] = []
        self.confused: set[str] = set()

    async def evict(self, pod: GpuPod, *, dry_run: bool) -> bool:
        """As the writer does."""
        if pod.name in self.confused:
            raise EvictionRefused(action=f"evict {pod.name}", status=500)
        if not dry_run:
            self.asked.append(pod.name)
            if self.absent:
                self.absent -= 1
                raise Unreachable("no answer")
        if not self.disruptions:
            raise EvictionRefused(action=f"evict {pod.name}", status=429)
        if not dry_run:
            self.disruptions -= 1
        return True


class Scene(support.Replica):
    """One GPU of 12 GiB that the victim has 8 of, a pod that waits for as much, and an engine at work."""

    def __init__(self) -> None:
        self.api = Api(Cluster(unit=GIB))
        super().__init__(self.api, clock=asyncio.get_running_loop().time)
        ready = NodeStatus(conditions=(Condition(type="Ready", status="True"),))
        self.cluster.node_applied(Node(metadata=ObjectMeta(name="gpu-1"), status=ready))
        self.holds(on_node(VICTIM, 8192))
        self.cluster.allocation_applied(allocation("posters"))
        self.api.show(VICTIM)
        self.api.show(WAITING, conditions=(Condition(type="PodScheduled", status="False"),))

    def holds(self, *grants: GrantOnNode, usable: int = 12 * GIB) -> None:
        """What the node's agent says."""
        self.api.report("gpu-1", report(*grants, usable=(usable,)))

    def victim_leaves(self) -> None:
        """The watch shows it."""
        self.api.show(VICTIM, deletion_timestamp=datetime.fromtimestamp(60, UTC))

    @property
    def phase(self) -> str | None:
        return self.cluster.allocations[POSTERS].status.phase

    @property
    def placed(self) -> str:
        conditions = self.cluster.allocations[POSTERS].status.conditions
        return next(condition.message for condition in conditions if condition.type == "Placed")


def scene(story: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def tell() -> None:
        at = Scene()
        leading = at.lead()
        await story(at)
        leading.cancel()

    virtual_time.run(tell())


def test_an_eviction_that_came_to_nothing_is_made_up_for_while_room_is_kept() -> None:
    async def story(at: Scene) -> None:
        at.api.absent = 1
        await at.passes(25)
        assert at.api.asked == ["poster-0"]
        await asyncio.sleep(15)
        assert at.api.asked == ["poster-0", "poster-0"]

    scene(story)


def test_of_three_that_share_a_budget_for_one_no_other_leaves_until_it_lets_them() -> None:
    async def story(at: Scene) -> None:
        small = demand(priority="Background", full=4 * GIB, floor=4 * GIB)
        posters = [gpu_pod(f"poster-{number}", of=small, allocation=None) for number in range(3)]
        at.api.end(VICTIM)
        at.api.disruptions = 1
        at.holds(*(on_node(pod, 4096) for pod in posters), usable=12 * GIB)
        for pod in posters:
            at.api.show(pod)
        at.api.show(WAITING_FOR_ALL, conditions=(Condition(type="PodScheduled", status="False"),))
        await at.passes(5)
        first, second = at.api.asked
        assert first != second
        at.api.disruptions = 2
        at.api.end(next(pod for pod in posters if pod.name == first))
        at.holds(*(on_node(pod, 4096) for pod in posters if pod.name != first), usable=12 * GIB)
        await at.passes(60)
        assert {*at.api.asked} == {pod.name for pod in posters}

    scene(story)


def test_one_that_nobody_can_evict_keeps_no_other_from_leaving_in_its_place() -> None:
    async def story(at: Scene) -> None:
        other = gpu_pod("other", of=demand(priority="Low", full=8 * GIB, floor=8 * GIB), allocation=None)
        at.holds(on_node(VICTIM, 8192), on_node(other, 8192), usable=16 * GIB)
        at.api.confused = {"poster-0"}
        at.api.show(other)
        await at.passes(10)
        assert at.api.asked == ["other"]

    scene(story)


def test_for_one_that_did_not_take_its_room_nobody_else_leaves_for_an_hour() -> None:
    async def story(at: Scene) -> None:
        await at.passes(1)
        at.api.end(VICTIM)
        at.holds()
        await at.passes(301)
        again = gpu_pod("poster-1", of=demand(priority="Background", full=8 * GIB, floor=8 * GIB), allocation=None)
        at.holds(on_node(again, 8192))
        at.api.show(again)
        await at.passes(3590)
        assert at.api.asked == ["poster-0"]
        await at.passes(20)
        assert at.api.asked == ["poster-0", "poster-1"]

    scene(story)


def test_one_that_never_had_its_room_is_helped_as_soon_as_somebody_may_leave() -> None:
    async def story(at: Scene) -> None:
        at.api.absent = 1
        await at.passes(1)
        at.api.disruptions = 0
        await at.passes(400)
        assert at.api.asked == ["poster-0"], "it got no answer, and then a budget protects it"
        at.api.disruptions = 1
        await at.passes(60)
        assert at.api.asked[:2] == ["poster-0", "poster-0"]

    scene(story)


def test_nobody_else_leaves_while_the_bytes_of_one_that_left_are_still_held() -> None:
    async def story(at: Scene) -> None:
        other = gpu_pod("other", of=demand(priority="Low", full=8 * GIB, floor=8 * GIB), allocation=None)
        at.holds(on_node(VICTIM, 8192), on_node(other, 8192), usable=16 * GIB)
        at.api.show(other)
        await at.passes(1)
        assert at.api.asked == ["poster-0"]
        at.api.end(VICTIM)
        await at.passes(200)
        assert at.api.asked == ["poster-0"]

    scene(story)


def test_an_allocation_says_that_it_was_preempted_although_the_watch_shows_late_who_left() -> None:
    async def story(at: Scene) -> None:
        await at.passes(3)
        assert at.api.asked == ["poster-0"]
        at.holds(on_node(VICTIM, 8192, measured=4 * GIB))
        await at.passes(3)
        at.holds(on_node(VICTIM, 8192, measured=4 * GIB))
        await at.passes(3)
        assert at.phase == "Running", "nobody has seen it leave"
        at.victim_leaves()
        await at.passes(3)
        assert (at.phase, at.placed) == ("Preempted", MESSAGE)

    scene(story)


def test_an_allocation_that_was_made_anew_says_nothing_of_what_befell_the_former_one() -> None:
    async def story(at: Scene) -> None:
        at.cluster.allocation_deleted(POSTERS)
        await at.passes(3)
        at.victim_leaves()
        at.cluster.allocation_applied(allocation("posters"))
        await at.passes(3)
        assert (at.api.asked, at.phase) == (["poster-0"], "Pending")

    scene(story)
