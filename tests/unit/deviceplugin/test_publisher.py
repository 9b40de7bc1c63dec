"""The node writes its GpuNode on change: what it decides by at once, what changes all the time seldom."""

import asyncio
import itertools
import random
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from arbiter.ids import GpuUuid, NodeName
from arbiter.units import GIB, MIB
from arbiter_deviceplugin.backends import Gpu, Reading
from arbiter_deviceplugin.gpunode import NodeFacts, node_status
from arbiter_deviceplugin.publisher import Publisher
from arbiter_kube.api.gpunode import GpuNode, GpuNodeStatus
from arbiter_kube.api.objects import Node
from arbiter_kube.api.resources import NODES
from arbiter_kube.client import KubeClient, NotFound
from tests.support import virtual_time
from tests.unit.deviceplugin.test_gpunode import FACTS, GRANT

LOOK = 0.5
"""Seconds between two readings of the GPUs."""


class Server:
    """Takes every status, and remembers when. It has a GpuNode from the beginning."""

    def __init__(self) -> None:
        self.writes: list[tuple[float, GpuNodeStatus]] = []
        self.gpunode: dict[str, Any] | None = {"metadata": {"name": "n1"}, "status": {}}

    async def get(self, resource: object, *_: object, **__: object) -> Node | GpuNode:
        if resource is NODES:
            return Node()
        if self.gpunode is None:
            raise NotFound(action="get gpunodes/n1", status=404)
        return GpuNode.model_validate(self.gpunode)

    async def create(self, _resource: object, _body: object) -> GpuNode:
        self.gpunode = {"metadata": {"name": "n1"}, "status": {}}
        return GpuNode.model_validate(self.gpunode)

    async def patch(self, _resource: object, _name: object, body: dict[str, Any], **_: object) -> None:
        if self.gpunode is None:
            raise NotFound(action="apply gpunodes/n1", status=404)
        status: GpuNodeStatus = body["status"]
        self.gpunode["status"] = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        self.writes.append((asyncio.get_running_loop().time(), status))


class Writer:
    """What a node says, and who writes it."""

    def __init__(self) -> None:
        self.server = Server()
        self.facts: NodeFacts = FACTS
        self.publisher = Publisher(cast("KubeClient", self.server), node=NodeName("n1"), status=self.status)

    def status(self, before: GpuNodeStatus | None, now: datetime) -> GpuNodeStatus:
        return node_status(self.facts, before=before, now=now)

    def use(self, used: int) -> None:
        self.facts = replace(self.facts, reading=reading(used))
        self.publisher.wake()


def reading(used: int) -> Reading:
    return Reading(gpus=(Gpu(uuid=GpuUuid("a"), index=0, name="SIM", total=12 * GIB, reserved=0, used=used),))


async def publishing(node: Writer, story: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(node.publisher.run())
    await story
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_an_idle_node_whose_use_flickers_writes_at_most_every_ten_seconds() -> None:
    node, dice = Writer(), random.Random(7)

    async def ten_minutes() -> None:
        for _ in range(1200):
            node.use(dice.randrange(6, 9) * GIB)
            await asyncio.sleep(LOOK)

    virtual_time.run(publishing(node, ten_minutes()))

    times = [time for time, _ in node.server.writes]
    assert 50 <= len(times) <= 61
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 9.99


def test_use_that_moves_within_a_step_is_not_written() -> None:
    node, dice = Writer(), random.Random(7)

    async def ten_minutes() -> None:
        for _ in range(1200):
            node.use(8 * GIB + dice.randrange(256) * MIB)
            await asyncio.sleep(LOOK)

    virtual_time.run(publishing(node, ten_minutes()))

    assert len(node.server.writes) == 1


def test_a_confirmation_is_written_at_once_whatever_was_written_before() -> None:
    node = Writer()
    confirmed = replace(GRANT, held=GRANT.granted)

    async def story() -> None:
        await asyncio.sleep(20)
        node.use(3 * GIB)
        await asyncio.sleep(0.1)
        node.facts = replace(node.facts, grants=(confirmed,))
        node.publisher.wake()
        await asyncio.sleep(5)

    virtual_time.run(publishing(node, story()))

    *_, (written, last) = node.server.writes
    assert 20.1 <= written <= 20.15
    assert last.grants[0].held == confirmed.held


def test_changes_that_come_together_are_written_together() -> None:
    node = Writer()

    async def story() -> None:
        await asyncio.sleep(1)
        for held in range(100):
            node.facts = replace(node.facts, grants=(replace(GRANT, held=held * MIB),))
            node.publisher.wake()
            await asyncio.sleep(0.001)

    virtual_time.run(publishing(node, story()))

    assert len(node.server.writes) <= 8


def test_a_gpunode_that_somebody_deletes_is_made_again_though_nothing_changes() -> None:
    node = Writer()

    async def story() -> None:
        await asyncio.sleep(5)
        node.server.gpunode = None
        await asyncio.sleep(120)

    virtual_time.run(publishing(node, story()))

    (first, written), (again, repeated) = node.server.writes
    assert repeated.gpus == written.gpus
    assert first < 5 < again <= first + 61
