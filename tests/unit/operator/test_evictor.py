"""Whom the evictor asks for, one look after another, while nothing else happens on the node."""

import asyncio
from typing import cast

import pytest

from arbiter.units import GIB
from arbiter_kube.api.gpunode import GrantState
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.client import ApiError, EvictionRefused, Forbidden
from arbiter_kube.client.events import EventRecorder
from arbiter_operator.evictor import Evictor
from arbiter_operator.node import NodeState
from arbiter_operator.protected import PROTECTED_FOR, Protected
from arbiter_operator.writer import Writer
from tests.support import virtual_time
from tests.unit.operator.builders import demand, gpu_pod, node, on_node
from tests.unit.operator.support import Told

LOW = demand(priority="Low")
SLOW_ANSWER = 0.2
BUDGET = EvictionRefused(action="evict", status=429)
FORBIDDEN = Forbidden(action="evict", status=403)


class Api:
    """Refuses to evict the pods that a PodDisruptionBudget protects."""

    def __init__(self, *protected: str, refusal: ApiError = BUDGET) -> None:
        self._protected = protected
        self._refusal = refusal
        self.asked: list[tuple[str, float]] = []

    async def evict(self, pod: GpuPod, *, dry_run: bool) -> bool:
        assert not dry_run
        self.asked.append((pod.name, asyncio.get_running_loop().time()))
        await asyncio.sleep(SLOW_ANSWER)
        if pod.name in self._protected:
            raise self._refusal
        return True


def shrunk() -> NodeState:
    """A GPU of 8 GiB on which three have their floors, the youngest first to go, while a more important one waits."""
    pods = [gpu_pod(f"low-{age}", of=LOW, allocation=None, bound_at=-age) for age in (1, 2)]
    waiting = gpu_pod("waiting", bound_at=0.0, allocation=None)
    gated = on_node(waiting, 0, state=GrantState.GATED, granted=None, applied=None, waiting=True)
    return node(*pods, waiting, grants=(*(on_node(pod, 4096) for pod in pods), gated), usable=(8 * GIB,))


def looks(api: Api, *, seconds: float) -> None:
    async def story() -> None:
        clock = asyncio.get_running_loop().time
        evictor = Evictor(
            writer=cast("Writer", api),
            recorder=cast("EventRecorder", Told()),
            protected=Protected(),
            allocation_of=lambda _: None,
            clock=clock,
        )
        while clock() < seconds:
            again_after = await evictor.look(shrunk())
            assert again_after is not None
            await asyncio.sleep(again_after)

    virtual_time.run(story())


@pytest.mark.parametrize("refusal", [BUDGET, FORBIDDEN], ids=["by a budget", "by somebody else"])
def test_the_next_one_goes_in_the_place_of_one_that_is_protected_and_a_while_later_that_is_asked_for_again(
    refusal: ApiError,
) -> None:
    api = Api("low-1", refusal=refusal)
    looks(api, seconds=95)
    grace = 30.0
    assert [name for name, _ in api.asked[:2]] == ["low-1", "low-2"]
    first, second = (at for _, at in api.asked[:2])
    assert grace <= first <= second <= first + 2
    again = min(at for name, at in api.asked if name == "low-1" and at > first)
    assert again >= first + PROTECTED_FOR


def test_nobody_goes_in_the_place_of_one_whose_eviction_failed() -> None:
    api = Api("low-1", refusal=ApiError(action="evict", status=500, message="etcdserver: request timed out"))
    looks(api, seconds=95)
    assert {name for name, _ in api.asked} == {"low-1"}


def test_where_all_are_protected_the_one_that_waits_goes_itself() -> None:
    api = Api("low-1", "low-2")
    looks(api, seconds=40)
    assert [name for name, _ in api.asked[:3]] == ["low-1", "low-2", "waiting"]
