"""What a real API server does not take beside the operator on a small machine: floods of edits and of targets.

The API server is the one in memory (`api_stand_in`), so that what is measured is the operator. ARBITER_BENCH_NODES as
in `test_operator`.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from arbiter.units import MIB
from arbiter_kube.api import annotations as a
from arbiter_kube.api.resources import PODS, QUALITY_POLICIES
from tests.bench.extender_site import GPUS, a_waiting_pod, cpu_seconds, percentile, together
from tests.bench.operator_site import Bench, stood_in_for

pytestmark = pytest.mark.timeout(900)

NODES = int(os.environ.get("ARBITER_BENCH_NODES", "50"))
PODS_IN_ALL = NODES * GPUS
EVENTS_PER_SECOND = 500
FLOOD_SECONDS = 30 if NODES > 200 else 5
BURSTS_PER_SECOND = 10

PROBE_SECONDS = 0.01
ANOTHER = {"mode": "DiffusionFirst", "pressureThreshold": 0.2}
"""A policy under which everybody who shares a GPU gets less."""

Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Prints a figure at once, since a run takes minutes."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\noperator, {NODES} nodes, {PODS_IN_ALL} pods: {text}", end="", flush=True)

    return line


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with stood_in_for(tmp_path_factory.mktemp("site")) as site:
        site.run(site.cluster.grow(nodes=NODES, pods=PODS_IN_ALL))
        site.operator.start()
        site.run(site.operator.ready())
        site.wait_quiet()
        yield site


def test_a_flood_of_events_is_drained(bench: Bench, say: Say) -> None:
    writes = bench.writes()
    edits = _edits()
    used, ours = cpu_seconds(bench.operator.pid), time.process_time()
    rate = bench.run(_flood(bench, edits))
    ended, ours = time.time(), time.process_time() - ours
    bench.wait_quiet()
    writes.read()
    used = cpu_seconds(bench.operator.pid) - used
    say(f"{len(edits)} edits, {rate:.0f} a second (aim: {EVENTS_PER_SECOND})")
    say(f"the last of {len(writes.of_pods)} targets {max(0.0, writes.of_pods[-1] - ended):.1f} s after it (aim: 5)")
    say(
        f"CPU for each edit: {used / len(edits) * 1000:.2f} ms of the operator's, {ours / len(edits) * 1000:.2f} ms to "
        "send it"
    )
    _assert_a_fresh_start_has_nothing_to_write(bench)
    say("a fresh start writes 0 (aim: 0), so nothing was lost")


def test_another_policy_for_everybody_keeps_nobody_waiting(bench: Bench, say: Say) -> None:
    writes = bench.writes()
    started = time.time()
    answers = bench.run(_switch(bench))
    bench.wait_quiet()
    writes.read()
    shown = "/".join(f"{percentile(answers, share) * 1000:.0f}" for share in (0.5, 0.99, 1.0))
    say(
        f"another policy: {len(writes.of_pods)} targets, the last {writes.of_pods[-1] - started:.1f} s after it; "
        f"a probe of the operator was meanwhile answered within {shown} ms (p50/p99/longest of {len(answers)})"
    )
    assert len(writes.of_pods) > PODS_IN_ALL / 20
    _assert_a_fresh_start_has_nothing_to_write(bench)


def _assert_a_fresh_start_has_nothing_to_write(bench: Bench) -> None:
    """So that nothing was lost: whoever begins anew knows no more than what the API server has."""
    bench.operator.stop()
    again = bench.writes()
    bench.operator.start()
    bench.run(bench.operator.ready())
    bench.wait_quiet()
    assert again.read() == 0


@dataclass(frozen=True)
class Edit:
    """A pod, and the patch that gives it another demand."""

    pod: str
    body: dict[str, Any]


def _edits() -> list[Edit]:
    """Of bound pods at random, each to a size that it never had; made before time is taken."""
    chance = random.Random(2)
    return [_larger(chance.randrange(PODS_IN_ALL), more) for more in range(EVENTS_PER_SECOND * FLOOD_SECONDS)]


def _larger(number: int, more: int) -> Edit:
    demand = a_waiting_pod("any", kind=number).pod.demand
    larger = a_waiting_pod("any", kind=number).sizes(full=str(demand.full + more * MIB), floor=str(demand.floor))
    annotations = {a.DEMAND: a.encode_demand(larger.pod.frozen)}
    return Edit(f"bound-{number}", {"metadata": {"annotations": annotations}})


async def _flood(bench: Bench, edits: list[Edit]) -> float:
    """Sends the edits, a burst ten times a second; returns how many a second it came to."""
    started, burst = time.perf_counter(), EVENTS_PER_SECOND // BURSTS_PER_SECOND
    for sent in range(0, len(edits), burst):
        await asyncio.sleep(max(0.0, started + sent / EVENTS_PER_SECOND - time.perf_counter()))
        now = edits[sent : sent + burst]
        await together(
            (bench.client.patch(PODS, edit.pod, edit.body, namespace="default") for edit in now), at_once=burst
        )
    return len(edits) / (time.perf_counter() - started)


async def _switch(bench: Bench) -> list[float]:
    """Changes the policy of everybody; returns how long each answer took of a probe on the operator's event loop."""
    answers: list[float] = []
    writes = bench.writes()

    async def probe() -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                asked = time.perf_counter()
                async with session.get(f"http://{bench.operator.health}/readyz") as answer:
                    assert answer.status == 200
                answers.append(time.perf_counter() - asked)
                await asyncio.sleep(PROBE_SECONDS)

    probing = asyncio.create_task(probe())
    await asyncio.sleep(0.5)
    await bench.client.patch(QUALITY_POLICIES, "default", {"spec": ANOTHER})
    before = -1
    while len(writes.of_pods) != before or before == 0:
        before = len(writes.of_pods)
        await asyncio.sleep(1.0)
        writes.read()
        assert not probing.done(), probing.exception()
    probing.cancel()
    with suppress(asyncio.CancelledError):
        await probing
    return answers
