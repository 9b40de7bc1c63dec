"""A preemption as the engine carries it out, with an API server that fails and a watch that is late."""

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

import msgspec

from arbiter.units import GIB
from arbiter_kube.api import SCHEDULER_NAME, VRAM_RESOURCE
from arbiter_kube.api import annotations as a
from arbiter_kube.api.fields import ObjectMeta
from arbiter_kube.api.gpuallocation import GpuAllocation, GpuAllocationStatus
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import Node, ObjectKey, Pod
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.client import Unreachable, codec
from arbiter_kube.client.events import EventRecorder
from arbiter_operator.cluster import Cluster
from arbiter_operator.engine import Engine
from arbiter_operator.writer import Writer
from tests.support import virtual_time
from tests.unit.operator.builders import allocation, demand, gpu_pod, on_node, report

POSTERS = ObjectKey("team-a", "posters")
VICTIM = gpu_pod("poster-0", of=demand(priority="Background", full=8 * GIB, floor=8 * GIB), allocation="posters")
WAITING = gpu_pod("big", of=demand(floor=8 * GIB), node=None, allocation=None)
MESSAGE = "poster-0 was evicted for team-a/big (High), which needs 8Gi on gpu-1/0"


class Scene:
    """One GPU of 12 GiB that the victim has 8 of, a pod that waits for as much, and an engine at work.

    `absent` calls to the API server fail from now on; what it is asked to evict is in `asked`.
    """

    def __init__(self) -> None:
        self.absent = 0
        self.asked: list[tuple[str, float]] = []
        self._versions = itertools.count(1000)
        self.cluster = Cluster(unit=GIB)
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        self.cluster.node_applied(_read({"metadata": {"name": "gpu-1"}, "status": ready}, Node))
        self.holds(on_node(VICTIM, 8192))
        self.cluster.allocation_applied(allocation("posters"))
        self.show(VICTIM)
        self.show(WAITING, conditions=[{"type": "PodScheduled", "status": "False"}])

    def holds(self, *grants: Any) -> None:
        status = report(*grants).model_dump(by_alias=True)
        self.cluster.report_applied(GpuNode.model_validate({"metadata": {"name": "gpu-1"}, "status": status}))

    def show(self, seen: GpuPod, *, conditions: list[dict[str, str]] | None = None, **metadata: Any) -> None:
        """What the watch tells of a pod."""
        notes = {a.DEMAND: a.encode_demand(seen.frozen), a.GPUS: ",".join(seen.gpus)}
        body = {
            "metadata": {"name": seen.name, "namespace": seen.namespace, "uid": seen.uid, "annotations": notes}
            | {"resourceVersion": str(next(self._versions)), "creationTimestamp": "1970-01-01T00:00:00Z"}
            | metadata,
            "spec": {
                "nodeName": seen.node,
                "schedulerName": SCHEDULER_NAME,
                "containers": [{"name": "main", "resources": {"limits": {VRAM_RESOURCE: str(seen.slices)}}}],
            },
            "status": {"conditions": conditions or []},
        }
        self.cluster.pod_applied(_read(body, Pod))

    async def annotate(self, pod: GpuPod, annotations: Mapping[str, str]) -> Pod:
        """As the writer does."""
        known = self.cluster.pod(pod.uid)
        assert known is not None
        before = known.raw.metadata
        after = msgspec.structs.replace(
            before, annotations={**before.annotations, **annotations}, resource_version=str(next(self._versions))
        )
        return msgspec.structs.replace(known.raw, metadata=after)

    async def evict(self, pod: GpuPod, *, dry_run: bool) -> bool:
        """As the writer does."""
        if not dry_run:
            self.asked.append((pod.name, asyncio.get_running_loop().time()))
            if self.absent:
                self.absent -= 1
                raise Unreachable("no answer")
        return True

    async def status(self, _: object, of: ObjectMeta, status: GpuAllocationStatus) -> GpuAllocation | None:
        """As the writer does."""
        known = self.cluster.allocations.get(ObjectKey(of.namespace, of.name))
        return None if known is None else known.model_copy(update={"status": status})

    @property
    def phase(self) -> str | None:
        return self.cluster.allocations[POSTERS].status.phase

    @property
    def placed(self) -> str:
        conditions = self.cluster.allocations[POSTERS].status.conditions
        return next(condition.message for condition in conditions if condition.type == "Placed")


class Silence:
    def record(self, notice: object) -> None:
        """Forgets it."""


def scene(story: Callable[[Scene, Engine], Coroutine[Any, Any, None]]) -> None:
    async def tell() -> None:
        at = Scene()
        engine = Engine(
            at.cluster,
            writer=cast("Writer", at),
            recorder=cast("EventRecorder", Silence()),
            clock=asyncio.get_running_loop().time,
        )
        leading = asyncio.create_task(engine.run())
        await story(at, engine)
        leading.cancel()

    virtual_time.run(tell())


def _read(body: dict[str, Any], model: Any) -> Any:
    return codec.decode(json.dumps(body).encode(), model)


def test_an_eviction_that_came_to_nothing_is_made_up_for_while_room_is_kept() -> None:
    async def story(at: Scene, engine: Engine) -> None:
        at.absent = 1
        engine.wake()
        await asyncio.sleep(25)
        assert [name for name, _ in at.asked] == ["poster-0"]
        await asyncio.sleep(15)
        assert [name for name, _ in at.asked] == ["poster-0", "poster-0"]

    scene(story)


def test_nobody_else_leaves_while_the_bytes_of_one_that_left_are_still_held() -> None:
    async def story(at: Scene, engine: Engine) -> None:
        other = gpu_pod("other", of=demand(priority="Background", full=4 * GIB, floor=4 * GIB), allocation=None)
        at.holds(on_node(VICTIM, 8192), on_node(other, 4096))
        at.show(other)
        engine.wake()
        await asyncio.sleep(1)
        assert [name for name, _ in at.asked] == ["poster-0"]
        gone = at.cluster.pod(VICTIM.uid)
        assert gone is not None
        at.cluster.pod_deleted(gone.raw)
        engine.wake()
        await asyncio.sleep(200)
        assert [name for name, _ in at.asked] == ["poster-0"]

    scene(story)


def test_an_allocation_says_that_it_was_preempted_although_the_watch_shows_late_who_left() -> None:
    async def story(at: Scene, engine: Engine) -> None:
        engine.wake()
        await asyncio.sleep(3)
        assert [name for name, _ in at.asked] == ["poster-0"]
        at.holds(on_node(VICTIM, 8192, measured=4 * GIB))
        engine.wake()
        await asyncio.sleep(3)
        at.holds(on_node(VICTIM, 8192, measured=4 * GIB))
        engine.wake()
        await asyncio.sleep(3)
        assert at.phase == "Running", "nobody has seen it leave"
        at.show(VICTIM, deletionTimestamp="1970-01-01T00:01:00Z")
        engine.wake()
        await asyncio.sleep(3)
        assert (at.phase, at.placed) == ("Preempted", MESSAGE)

    scene(story)


def test_an_allocation_that_was_made_anew_says_nothing_of_what_befell_the_former_one() -> None:
    async def story(at: Scene, engine: Engine) -> None:
        at.cluster.allocation_deleted(POSTERS)
        engine.wake()
        await asyncio.sleep(3)
        at.show(VICTIM, deletionTimestamp="1970-01-01T00:01:00Z")
        at.cluster.allocation_applied(allocation("posters"))
        engine.wake()
        await asyncio.sleep(3)
        assert (at.asked[0][0], at.phase) == ("poster-0", "Pending")

    scene(story)
