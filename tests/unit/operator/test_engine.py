"""The engine at work beside an API server that is slow, fails, or answers at once."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from pydantic import BaseModel

from arbiter.units import GIB
from arbiter_kube.api import annotations as a
from arbiter_kube.api import pods
from arbiter_kube.api.fields import ObjectMeta
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_kube.api.resources import Resource
from arbiter_kube.client import Unreachable
from arbiter_operator.cluster import Cluster
from arbiter_operator.engine import TARGETS_AT_ONCE
from tests.support import virtual_time
from tests.unit.operator import support
from tests.unit.operator.builders import allocation, gpu_pod, report

HOUR = 3600.0
CHAT = ObjectKey("team-a", "chat")


class Api(support.Api):
    """Takes writes of pods, on some nodes after a while or never."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.told: list[tuple[str, str]] = []
        """Every pod that was written a target, and its quality."""
        self.written: list[GpuPod] = []
        """Every pod as a write left it."""
        self.answers: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.hanging: set[str] = set()
        self.failing: set[str] = set()
        self.under_way: list[str] = []
        self.evicted: list[str] = []
        self.statuses: list[str] = []
        """Whose status was to be written, by name."""
        self.has_statuses = True

    def apply(self, name: str, *, node: str, allocation: str | None = None) -> None:
        """A pod of chat on the node's GPU: at 6Gi of 12Gi it has 0.600 beside another one."""
        self.show(gpu_pod(name, node=node, allocation=allocation))

    def forget(self, node: str) -> None:
        """The node's GPUs are gone."""
        self.cluster.report_deleted(GpuNode.model_validate({"metadata": {"name": node}}))

    def has(self, node: str, *, gib: int = 12, healthy: bool = True) -> None:
        """What the node's agent says of its GPU."""
        said = report(usable=(gib * GIB,))
        (gpu,) = said.gpus
        self.report(node, said.model_copy(update={"gpus": [gpu.model_copy(update={"healthy": healthy})]}))

    async def annotate(self, pod: GpuPod, annotations: Mapping[str, str]) -> Pod:
        node = str(pod.node)
        if node in self.failing:
            raise Unreachable("no answer")
        self.under_way.append(pod.name)
        try:
            if node in self.hanging:
                await self.answers[node].wait()
        finally:
            self.under_way.remove(pod.name)
        if a.QUALITY_TARGET in annotations:
            self.told.append((pod.name, annotations[a.QUALITY_TARGET]))
        after = await super().annotate(pod, annotations)
        seen = pods.gpu_pod(after, unit=GIB)
        assert seen is not None
        self.written.append(seen)
        return after

    async def status(self, resource: Resource[Any], of: ObjectMeta, status: BaseModel) -> BaseModel | None:
        self.statuses.append(of.name)
        if not self.has_statuses:
            raise Unreachable("no answer")
        return await super().status(resource, of, status)

    async def evict(self, pod: GpuPod, *, dry_run: bool) -> bool:
        """As the writer does."""
        assert not dry_run
        self.evicted.append(pod.name)
        return True


class Scene(support.Replica):
    """A cluster of which two nodes report a GPU, and an engine at work."""

    def __init__(self) -> None:
        self.time_of_day = 100 * HOUR
        self.api = Api(Cluster(unit=GIB))
        for node in ("one", "other"):
            self.api.has(node)
        super().__init__(self.api, clock=lambda: self.time_of_day)


def scene(story: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def tell() -> None:
        at = Scene()
        leading = at.lead()
        await story(at)
        leading.cancel()

    virtual_time.run(tell())


def test_a_write_that_hangs_on_one_node_keeps_no_arrival_on_another_waiting() -> None:
    async def story(at: Scene) -> None:
        at.api.hanging.add("one")
        at.api.apply("stuck", node="one")
        await at.passes(1)
        assert at.api.under_way == ["stuck"]
        at.api.apply("first", node="other")
        await at.passes(1)
        at.api.apply("second", node="other")
        await at.passes(1)
        assert at.api.told == [("first", "1.000"), ("first", "0.600"), ("second", "0.600")]

    scene(story)


def test_a_later_change_of_a_node_is_written_once_the_first_ended_and_the_last_state_counts() -> None:
    async def story(at: Scene) -> None:
        at.api.hanging.add("one")
        at.api.apply("first", node="one")
        await at.passes(1)
        at.api.apply("second", node="one")
        await at.passes(1)
        at.api.has("one", gib=24)
        await at.passes(1)
        assert (at.api.under_way, at.api.told) == (["first"], [])
        at.api.answers["one"].set()
        await at.passes(1)
        assert at.api.told == [("first", "1.000"), ("second", "1.000")]

    scene(story)


def test_what_was_not_sent_yet_follows_from_the_state_by_then() -> None:
    async def story(at: Scene) -> None:
        at.api.hanging.add("one")
        at.api.has("one", gib=240)
        names = [f"pod-{number:02}" for number in range(TARGETS_AT_ONCE + 4)]
        for name in names:
            at.api.apply(name, node="one")
        await at.passes(1)
        assert at.api.under_way == names[:TARGETS_AT_ONCE]
        at.api.has("one", gib=96)
        await at.passes(1)
        at.api.answers["one"].set()
        await at.passes(1)
        later = names[TARGETS_AT_ONCE:]
        assert [told for told in at.api.told if told[0] in later] == [(name, "0.600") for name in later]
        assert dict(at.api.told) == dict.fromkeys(names, "0.600")

    scene(story)


def test_no_target_is_written_after_a_demand_that_it_was_not_decided_from() -> None:
    async def story(at: Scene) -> None:
        at.cluster.allocation_applied(allocation("chat"))
        at.api.apply("chat", node="one", allocation="chat")
        at.api.apply("other", node="one")
        await at.passes(1)
        at.api.hanging.add("one")
        at.cluster.allocation_applied(allocation("chat", generation=2, vram={"full": "8Gi", "floor": "4Gi"}))
        await at.passes(1)
        assert at.api.under_way == ["chat"], "its new demand"
        at.api.end(gpu_pod("other"))
        await at.passes(1)
        at.api.answers["one"].set()
        await at.passes(1)
        chat = [pod for pod in at.api.written if pod.name == "chat"]
        assert [(pod.demand.full // GIB, pod.grant and pod.grant.vram // GIB) for pod in chat] == [
            (10, 6),
            (8, 6),
            (8, 8),
        ]

    scene(story)


def test_a_write_that_fails_is_repeated_until_it_succeeds_and_keeps_no_other_node_waiting() -> None:
    async def story(at: Scene) -> None:
        at.api.failing.add("one")
        at.api.apply("failed", node="one")
        await at.passes(30)
        at.api.apply("fine", node="other")
        await at.passes(0.1)
        assert at.api.told == [("fine", "1.000")]
        at.api.failing.clear()
        await asyncio.sleep(10)
        assert at.api.told == [("fine", "1.000"), ("failed", "1.000")]

    scene(story)


def test_a_write_that_failed_is_repeated_although_the_time_of_day_was_set_back() -> None:
    async def story(at: Scene) -> None:
        at.api.failing.add("one")
        at.api.apply("failed", node="one")
        await at.passes(0.1)
        at.time_of_day -= HOUR
        at.api.failing.clear()
        await asyncio.sleep(10)
        assert at.api.told == [("failed", "1.000")]

    scene(story)


def test_who_leads_no_longer_writes_nothing_and_who_leads_again_writes_what_is_missing() -> None:
    async def story() -> None:
        at = Scene()
        leading = at.lead()
        at.api.hanging.add("one")
        at.api.failing.add("other")
        at.api.apply("stuck", node="one")
        at.api.apply("failed", node="other")
        await at.passes(0.1)
        assert at.api.under_way == ["stuck"]

        leading.cancel()
        at.api.hanging.clear()
        at.api.failing.clear()
        at.api.apply("late", node="other")
        await at.passes(60)
        assert (at.api.under_way, at.api.told) == ([], [])

        leading = at.lead()
        await asyncio.sleep(1)
        leading.cancel()
        assert sorted(at.api.told) == [("failed", "0.600"), ("late", "0.600"), ("stuck", "1.000")]

    virtual_time.run(story())


def test_who_leads_again_gives_everybody_their_time_anew() -> None:
    async def story() -> None:
        at = Scene()
        leading = at.lead()
        at.api.apply("chat", node="one")
        at.api.has("one", healthy=False)
        await at.passes(50)
        leading.cancel()

        at.api.has("one")
        await at.passes(HOUR)
        at.api.has("one", healthy=False)
        leading = at.lead()
        await at.passes(50)
        assert at.api.evicted == [], "the GPU was well for an hour, and has been lost for less than a minute"
        at.time_of_day += 20
        await at.passes(20)
        assert at.api.evicted == ["chat"]
        leading.cancel()

    virtual_time.run(story())


def test_who_comes_and_goes_all_the_time_is_told_of_once_a_minute() -> None:
    async def story(at: Scene) -> None:
        at.api.apply("chat", node="one")
        await at.passes(1)
        for _ in range(10):
            at.api.apply("other", node="one")
            await at.passes(1)
            at.api.end(gpu_pod("other"))
            await at.passes(1)
        assert [reason for reason, _ in at.told.events] == ["QualityReduced", "QualityRestored"]
        before = at.told.events[:1]
        assert before == [("QualityReduced", "1.000 -> 0.600 (6144Mi): team-a/other (High) joined one/0")]
        await at.passes(60)
        at.api.apply("other", node="one")
        await at.passes(1)
        assert at.told.events[2:] == before, "what is said again is news, once a minute has passed"

    scene(story)


def test_a_policys_status_is_written_once_a_second_however_fast_nodes_come() -> None:
    async def story(at: Scene) -> None:
        at.cluster.policy_applied(QualityPolicy.model_validate({"metadata": {"name": "default"}}))
        for number in range(50):
            at.api.has(f"new-{number}")
            await at.passes(0.05)
        await asyncio.sleep(1)
        assert at.cluster.policies["default"].status.nodes == 52
        assert at.api.statuses == ["default"] * 4, "at once, and after one, two and three seconds"

    scene(story)


def test_a_status_that_cannot_be_written_is_tried_less_and_less_often() -> None:
    async def story(at: Scene) -> None:
        at.api.has_statuses = False
        at.cluster.allocation_applied(allocation("chat"))
        at.cluster.policy_applied(QualityPolicy.model_validate({"metadata": {"name": "default"}}))
        await at.passes(60)
        tried = Counter(at.api.statuses)
        assert tried.keys() == {"chat", "default"}
        assert max(tried.values()) < 25
        at.api.has_statuses = True
        await asyncio.sleep(10)
        assert at.cluster.allocations[CHAT].status.phase == "Pending"
        assert at.cluster.policies["default"].status.nodes == 2

    scene(story)


def test_who_follows_piles_up_no_marks_and_who_leads_again_knows_no_former_prices() -> None:
    async def story() -> None:
        at = Scene()
        leading = at.lead()
        await at.passes(1)
        assert {node for node, _ in at.engine.prices()} == {"one", "other"}
        leading.cancel()
        await asyncio.sleep(1)
        at.api.forget("other")
        await at.passes(1)
        assert not at.cluster.is_changed

        leading = at.lead()
        await asyncio.sleep(1)
        assert {node for node, _ in at.engine.prices()} == {"one"}
        leading.cancel()

    virtual_time.run(story())
