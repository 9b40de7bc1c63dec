"""A container starts when its floor is really free, with a size that nobody else may hold."""

import asyncio

import pytest

from arbiter.units import GIB
from arbiter_kube.api.gpunode import GrantState
from tests.component.deviceplugin.support import Engine, Site
from tests.unit.extender.builders import a_pod

HIGH = a_pod("chat").sizes(full="10Gi", floor="4Gi")
LATER = a_pod("posters").sizes(full="6Gi", floor="3Gi")

A_WHILE = 0.5


async def test_a_container_alone_starts_at_once_at_its_full_size(site: Site) -> None:
    running = await site.run(HIGH)

    assert {key: running.engine.target[key] for key in ("quality", "vramBytes", "revision", "gpus")} == {
        "quality": 1.0,
        "vramBytes": 10 * GIB,
        "revision": 1,
        "gpus": ["GPU-0"],
    }
    assert await site.agent.metric("arbiter_grant_latency_seconds_count") == 1
    assert running.engine.number("quality") == "1.000"
    assert running.engine.number("vram-bytes") == str(10 * GIB)
    assert running.engine.number("gpu-fraction") == "0.8333"
    assert {path.name: path.stat().st_mode & 0o777 for path in running.engine.directory.iterdir()} == {
        "quality.json": 0o644,
        "quality": 0o644,
        "vram-bytes": 0o644,
        "gpu-fraction": 0o644,
        "agent.sock": 0o666,
        "bin": 0o755,
    }


async def test_a_start_waits_until_a_neighbour_has_given_its_bytes_back(site: Site) -> None:
    chat = await site.run(HIGH)
    await chat.engine.acknowledge()
    pod = await site.add_pod(LATER, target=("0.500", 3 * GIB))
    container = await site.kubelet.admit(site.namespace, "posters", size=3)
    start = asyncio.create_task(site.kubelet.prestart(container))

    await site.eventually_grant(pod, lambda grant: grant.waiting, "waiting start")
    await site.set_target(chat.pod, "0.900", 9 * GIB, revision=2)
    smaller = await chat.engine.ask(after=1)
    assert smaller["vramBytes"] == 9 * GIB
    assert not start.done()
    assert not (container.directory / "quality.json").exists()
    await chat.engine.acknowledge(smaller)

    assert await start == ""
    assert Engine(container).target["vramBytes"] == 3 * GIB


@pytest.mark.parametrize("flags", [("--start-wait", "2s")])
async def test_a_start_that_waits_too_long_is_refused_with_a_sentence_and_let_go_later(site: Site) -> None:
    chat = await site.run(HIGH)
    await site.add_pod(LATER)
    container = await site.kubelet.admit(site.namespace, "posters", size=3)

    refusal = await site.kubelet.prestart(container)

    assert refusal == (f"start held: needs 3072Mi on {site.node}/0, 2048Mi free; {site.namespace}/chat holds 10240Mi")
    await site.report_ended(chat, phase="Succeeded")
    site.processes.end(chat.process)
    assert await site.kubelet.prestart(container) == ""


async def test_how_long_a_container_waited_for_its_first_target_is_told_once(site: Site) -> None:
    chat = await site.run(HIGH)
    await chat.engine.acknowledge()
    pod = await site.add_pod(LATER, target=("0.500", 3 * GIB))
    container = await site.kubelet.admit(site.namespace, "posters", size=3)
    start = asyncio.create_task(site.kubelet.prestart(container))
    await site.eventually_grant(pod, lambda grant: grant.waiting, "waiting start")
    assert await site.agent.metric("arbiter_grant_latency_seconds_count") == 1
    await asyncio.sleep(A_WHILE)

    await site.set_target(chat.pod, "0.900", 9 * GIB, revision=2)
    await chat.engine.acknowledge(await chat.engine.ask(after=1))
    assert await start == ""

    assert await site.agent.metric("arbiter_grant_latency_seconds_count") == 2
    took = await site.agent.metric("arbiter_grant_latency_seconds_sum")
    assert took is not None
    assert took > A_WHILE


async def test_a_start_that_the_kubelet_gave_up_is_not_counted_as_running(site: Site) -> None:
    await site.run(HIGH)
    pod = await site.add_pod(LATER)
    container = await site.kubelet.admit(site.namespace, "posters", size=3)
    start = asyncio.create_task(site.kubelet.prestart(container))
    await site.eventually_grant(pod, lambda grant: grant.waiting, "waiting start")

    start.cancel()

    grant = await site.eventually_grant(pod, lambda grant: grant.state is GrantState.GATED, "gated container")
    assert (grant.granted, grant.held) == (None, 0)
