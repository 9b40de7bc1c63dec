"""Bytes are free when the processes that held them are gone, and not before."""

import asyncio
import shutil

from arbiter.units import GIB
from arbiter_kube.api.gpunode import GrantState
from tests.component.deviceplugin.support import Running, Site, eventually, http
from tests.unit.extender.builders import a_pod

CHAT = a_pod("chat").sizes(full="10Gi", floor="4Gi")

A_WHILE = 2.0
"""Longer than the agent needs to notice what it may act upon."""


async def _is_forgotten(site: Site, running: Running) -> bool:
    status = await site.status()
    return status is not None and all(grant.pod_uid != running.pod.uid for grant in status.grants)


async def test_a_pod_deleted_by_force_keeps_its_bytes_until_its_processes_have_ended(site: Site) -> None:
    chat = await site.run(CHAT)
    await site.force_delete(chat.pod)
    site.kubelet.forget(chat.container)
    await asyncio.sleep(A_WHILE)
    grant = await site.grant(chat.pod)
    assert grant is not None
    assert grant.held == 10 * GIB

    site.processes.end(chat.process)

    await eventually(lambda: _is_forgotten(site, chat), "end of the grant")
    await eventually(lambda: not chat.engine.directory.exists(), "end of the directory")
    assert list((site.place.state / "records").iterdir()) == []
    assert list((site.place.state / "allocations").iterdir()) == []


async def test_an_agent_that_does_not_see_the_hosts_processes_frees_nothing_and_says_so(site: Site) -> None:
    chat = await site.run(CHAT)
    elsewhere = site.place.root / "elsewhere"
    elsewhere.mkdir()
    assert site.agent.stop() == 0
    site.agent.start("--proc-dir", str(elsewhere))
    said = "--proc-dir does not show the kubelet's process, so no memory is freed; give the pod hostPID: true\n"

    async def says_so() -> bool:
        return await http(f"http://{site.agent.health}/readyz") == (503, said)

    await eventually(says_so, "word of it in the readiness probe")
    await site.force_delete(chat.pod)
    await asyncio.sleep(A_WHILE)

    grant = await site.grant(chat.pod)
    assert grant is not None
    assert grant.held == 10 * GIB


async def test_a_finished_pod_gives_its_bytes_back(site: Site) -> None:
    chat = await site.run(CHAT)
    await site.report_ended(chat, phase="Succeeded")
    site.processes.end(chat.process)

    await eventually(lambda: _is_forgotten(site, chat), "end of the grant")


async def test_a_container_that_is_down_keeps_its_grant_for_the_restart(site: Site) -> None:
    chat = await site.run(CHAT)
    await chat.engine.acknowledge()
    await site.eventually_grant(chat.pod, lambda grant: grant.state is GrantState.MOVABLE, "movable container")
    # A container that lives too briefly to be seen among the processes counts as started until it is started again.
    await asyncio.sleep(A_WHILE)

    await site.report_ended(chat)
    site.processes.end(chat.process)

    grant = await site.eventually_grant(chat.pod, lambda grant: grant.state is GrantState.DOWN, "container down")
    assert (grant.held, grant.movable) == (10 * GIB, False)
    assert await site.kubelet.prestart(chat.container) == ""
    assert chat.engine.target["vramBytes"] == 10 * GIB


async def test_after_a_reboot_of_the_node_containers_start_again_with_what_they_had(site: Site) -> None:
    chat = await site.run(CHAT)
    await chat.engine.acknowledge()
    site.agent.kill()
    site.processes.end(chat.process)
    shutil.rmtree(site.place.run)  # it is in memory on most hosts
    await site.kubelet.restart()

    site.agent.start()
    await site.agent.ready()
    await eventually(lambda: site.kubelet.healthy, "registration with the new kubelet")

    assert await site.kubelet.prestart(chat.container) == ""
    assert chat.engine.target["vramBytes"] == 10 * GIB
    await chat.engine.acknowledge()


async def test_the_late_report_of_a_former_starts_end_frees_nothing(site: Site) -> None:
    chat = await site.run(CHAT)
    await chat.engine.acknowledge()
    site.processes.end(chat.process)
    assert await site.kubelet.prestart(chat.container) == ""
    site.processes.start(chat.pod.uid)

    await site.report_ended(chat)
    await asyncio.sleep(A_WHILE)

    await site.eventually_grant(chat.pod, lambda grant: grant.state is GrantState.STARTING, "start")


async def test_a_look_at_processes_that_a_restart_overtakes_frees_nothing(site: Site) -> None:
    chat = await site.run(CHAT)
    await chat.engine.acknowledge()
    seen = await site.processes.hold_look(chat.process)
    site.processes.end(chat.process)
    assert await site.kubelet.prestart(chat.container) == ""
    site.processes.start(chat.pod.uid)
    await seen()

    await site.report_ended(chat)
    await asyncio.sleep(A_WHILE)

    await site.eventually_grant(chat.pod, lambda grant: grant.state is GrantState.STARTING, "start")
