"""While the API server is away the kubelet is served from what is known."""

import asyncio

from arbiter.units import GIB
from tests.component.deviceplugin.fake_kubelet import Container
from tests.component.deviceplugin.support import Site, eventually, http
from tests.component.kube.support import Cable
from tests.unit.extender.builders import a_pod

CHAT = a_pod("chat").sizes(full="10Gi", floor="4Gi")


async def test_containers_restart_and_acknowledge_and_the_kubelet_may_restart(site: Site, cable: Cable) -> None:
    chat = await site.run(CHAT)
    await cable.cut()

    await chat.engine.acknowledge()
    await site.kubelet.restart()
    await eventually(lambda: len(site.kubelet.healthy) == 24, "registration with the new kubelet")
    site.processes.end(chat.process)
    assert await site.kubelet.prestart(chat.container) == ""

    assert chat.engine.target["vramBytes"] == 10 * GIB


async def test_a_pod_that_was_never_seen_is_admitted_in_time_and_starts_once_it_is(site: Site, cable: Cable) -> None:
    await cable.cut()
    await site.add_pod(CHAT, gpus=("GPU-1",))

    async with asyncio.timeout(4):
        container = await site.kubelet.admit(site.namespace, "chat", size=4)
    refusal = await site.kubelet.prestart(container)
    assert len(container.preferred) == 4
    assert refusal == f"start held: pod {site.namespace}/chat has not been seen by this node's agent yet"

    await cable.open()
    await eventually(lambda: _lets_go(site, container), "released start")


async def _lets_go(site: Site, container: Container) -> bool:
    answer = await site.kubelet.prestart(container)
    return answer == ""


async def test_an_agent_that_starts_meanwhile_keeps_what_containers_may_hold(site: Site, cable: Cable) -> None:
    chat = await site.run(CHAT)
    await cable.cut()
    site.agent.kill()
    await eventually(lambda: not site.kubelet.healthy, "end of the former agent's offer")
    site.agent.start()
    await eventually(lambda: len(site.kubelet.healthy) == 24, "registration")

    assert chat.engine.target["vramBytes"] == 10 * GIB
    assert await http(f"http://{site.agent.health}/readyz") == (503, "the pods of this node have not been listed yet\n")
    await cable.open()

    await site.agent.ready()
    grant = await site.eventually_grant(chat.pod, lambda grant: grant.granted == 10 * GIB, "grant as before")
    assert grant.held == 10 * GIB
