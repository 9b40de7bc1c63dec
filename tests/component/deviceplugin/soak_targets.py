"""Forty containers on one node (`make soak`): how soon each is told its first size and every other one."""

import asyncio
import itertools
import time

import pytest

from arbiter.units import GIB, MIB
from tests.component.deviceplugin.support import Running, Site, eventually, gpu
from tests.unit.extender.builders import a_pod

PODS, ROUNDS = 40, 10
SLOWEST = 0.5


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 99 // 100]


@pytest.mark.timeout(600)
async def test_targets_reach_forty_containers_soon(site: Site) -> None:
    site.place.write_gpus(gpu(0, size=512 * GIB))
    await eventually(lambda: len(site.kubelet.healthy) == 512, "larger GPU")
    first: list[float] = []
    pods: list[Running] = []
    for number in range(PODS):
        pod = await site.add_pod(a_pod(f"pod-{number}"))
        began = time.monotonic()
        container = await site.kubelet.admit(site.namespace, f"pod-{number}", size=4)
        assert await site.kubelet.prestart(container) == ""
        assert (container.directory / "quality.json").exists()
        first.append(time.monotonic() - began)
        pods.append(await site.report_running(pod, container))
        await pods[-1].engine.acknowledge()

    revisions = itertools.count(2)
    alone = [await change(site, pod, next(revisions)) for pod in pods]
    together = []
    for revision in itertools.islice(revisions, ROUNDS):
        together += await asyncio.gather(*(change(site, pod, revision) for pod in pods))

    print(
        f"{PODS} containers: bound -> file p99 {p99(first):.3f} s; annotation -> client p99 {p99(alone):.3f} s alone, "
        f"{p99(together):.3f} s when all {PODS} change at once"
    )
    assert max(p99(first), p99(alone)) < SLOWEST
    # Forty patches and forty clients at once keep a small machine busy by themselves: told, not judged.
    assert len(together) == ROUNDS * PODS


async def change(site: Site, pod: Running, revision: int) -> float:
    """Seconds from a smaller target in the annotation until the container's client has read it."""
    wanted, known = 10 * GIB - 64 * revision * MIB, pod.engine.target
    asking = asyncio.create_task(pod.engine.ask(after=known["revision"], patience="30s"))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await site.set_target(pod.pod, "1.000", wanted, revision=revision)
    told = await asking
    assert wanted - 64 * MIB < told["vramBytes"] <= wanted < known["vramBytes"]
    return time.monotonic() - began
