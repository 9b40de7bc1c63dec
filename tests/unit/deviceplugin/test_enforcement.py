"""Limits of running containers, and the rung of the ladder that holds because of them."""

import asyncio
from dataclasses import replace
from fractions import Fraction

from arbiter.ids import GpuUuid, PodUid
from arbiter.transitions import Promise, Record
from arbiter.transitions.record import Size
from arbiter.units import GIB
from arbiter_deviceplugin.backends import Gpu, Limits, Reading
from arbiter_deviceplugin.enforcement import Enforcement, Enforcer
from arbiter_deviceplugin.inventory import Inventory
from arbiter_deviceplugin.selection import Selection
from tests.unit.deviceplugin.builders import GPU, Scripted

CHAT = PodUid("chat")
LIMITED = replace(GPU, limits=Limits.DMEM)


def running(*sizes: int) -> Record:
    """A started container that may hold these sizes."""
    promises = tuple(
        Promise(revision=revision, size=Size(Fraction(1), size * GIB), at=0.0)
        for revision, size in enumerate(sizes, start=1)
    )
    return Record(uid=CHAT, gpus=(GPU.uuid,), start=1, released_at=1.0, promises=promises)


async def enforcer(gpu: Gpu = LIMITED) -> tuple[Enforcer, Scripted]:
    backend = Scripted(Reading(gpus=(gpu,)))
    inventory = Inventory(backend, Selection())
    await inventory.refresh()
    return Enforcer(backend, inventory), backend


async def test_a_container_is_limited_to_what_it_may_hold_from_the_moment_its_group_is_seen() -> None:
    enforcer_, backend = await enforcer()
    rungs = [enforcer_.rung(LIMITED)]
    await enforcer_.follow(running(8))
    rungs.append(enforcer_.rung(LIMITED))
    await enforcer_.see({CHAT: "/kubepods/x"})
    rungs.append(enforcer_.rung(LIMITED))
    await enforcer_.see({CHAT: "/kubepods/x"})

    assert backend.limits == [(GPU.uuid, "/kubepods/x", 8 * GIB)]
    assert rungs == [Enforcement.DMEM, Enforcement.NONE, Enforcement.DMEM]


async def test_a_limit_rises_before_a_grow_is_told_and_falls_when_a_shrink_is_confirmed() -> None:
    enforcer_, backend = await enforcer()
    await enforcer_.see({CHAT: "/kubepods/x"})
    for record in (running(8), running(10), running(10, 6), running(6)):
        await enforcer_.follow(record)

    assert [size // GIB for _gpu, _group, size in backend.limits] == [8, 10, 6]


class Slow(Scripted):
    """A driver that takes its time for the first limit."""

    def __init__(self, *answers: Reading | None) -> None:
        super().__init__(*answers)
        self.let_go = asyncio.Event()

    async def limit(self, gpu: GpuUuid, control_group: str, size: int) -> None:
        await super().limit(gpu, control_group, size)
        if len(self.limits) == 1:
            await self.let_go.wait()


async def test_a_grow_while_the_driver_is_busy_with_others_is_not_taken_back() -> None:
    backend = Slow(Reading(gpus=(LIMITED,)))
    inventory = Inventory(backend, Selection())
    await inventory.refresh()
    enforcer_, web = Enforcer(backend, inventory), replace(running(1), uid=PodUid("web"))
    await enforcer_.follow(web)
    await enforcer_.follow(running(4))
    seeing = asyncio.create_task(enforcer_.see({web.uid: "/kubepods/web", CHAT: "/kubepods/chat"}))
    await asyncio.sleep(0)

    await enforcer_.follow(running(8))
    backend.let_go.set()
    await seeing

    assert [(group, size // GIB) for _gpu, group, size in backend.limits] == [
        ("/kubepods/web", 1),
        ("/kubepods/chat", 8),
    ]


async def test_a_container_that_was_started_anew_is_limited_in_its_new_group() -> None:
    enforcer_, backend = await enforcer()
    await enforcer_.follow(running(8))
    for group in ("/kubepods/x", "/kubepods/y", "/kubepods/x"):
        await enforcer_.see({CHAT: group})

    assert [group for _gpu, group, _size in backend.limits] == ["/kubepods/x", "/kubepods/y", "/kubepods/x"]


async def test_a_gpu_with_a_limit_that_the_driver_refuses_is_no_better_than_monitored_until_it_is_set() -> None:
    watched = replace(LIMITED, use={})
    enforcer_, backend = await enforcer(watched)
    backend.refused.add("/kubepods/x")
    await enforcer_.follow(running(8))
    await enforcer_.see({CHAT: "/kubepods/x"})
    refused = enforcer_.rung(watched)
    backend.refused.clear()
    await enforcer_.see({CHAT: "/kubepods/x"})

    assert (refused, enforcer_.rung(watched)) == (Enforcement.MONITOR, Enforcement.DMEM)


async def test_who_is_down_or_gone_needs_no_limit() -> None:
    enforcer_, backend = await enforcer()
    await enforcer_.follow(replace(running(8), released_at=None))
    down = enforcer_.rung(LIMITED)
    await enforcer_.follow(running(8))
    enforcer_.forget(CHAT)
    await enforcer_.see({CHAT: "/kubepods/x"})

    assert (down, enforcer_.rung(LIMITED), backend.limits) == (Enforcement.DMEM, Enforcement.DMEM, [])


async def test_where_the_driver_has_no_limits_none_are_set_and_only_measuring_is_claimed() -> None:
    enforcer_, backend = await enforcer(GPU)
    await enforcer_.follow(running(8))
    await enforcer_.see({CHAT: "/kubepods/x"})

    assert backend.limits == []
    assert [enforcer_.rung(gpu) for gpu in (GPU, replace(GPU, use={}))] == [Enforcement.NONE, Enforcement.MONITOR]
    assert enforcer_.rung(replace(GPU, uuid=GpuUuid("other"), limits=Limits.MISC)) == Enforcement.MISC


async def test_a_container_that_was_just_let_go_is_looked_for_until_its_group_is_seen() -> None:
    enforcer_, _ = await enforcer()
    await enforcer_.follow(running(8))
    awaited = [enforcer_.is_awaiting(now) for now in (1.1, 30.9, 31.1)]
    await enforcer_.see({CHAT: "/kubepods/x"})
    awaited.append(enforcer_.is_awaiting(1.2))

    assert awaited == [True, True, False, False]


async def test_nobody_is_looked_for_where_the_driver_has_no_limits() -> None:
    enforcer_, _ = await enforcer(GPU)
    await enforcer_.follow(running(8))

    assert not enforcer_.is_awaiting(1.1)
