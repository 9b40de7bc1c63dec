"""The plugin stays known to a kubelet that comes and goes."""

from tests.component.deviceplugin.support import Site, eventually, gpu


async def test_every_slice_of_every_gpu_is_offered(site: Site) -> None:
    assert site.kubelet.healthy == {f"GPU-{number}::{slice_}" for number in (0, 1) for slice_ in range(12)}
    assert len(site.kubelet.endpoints) == 1


async def test_a_kubelet_that_restarts_and_wipes_the_sockets_knows_the_plugin_again(site: Site) -> None:
    first = site.kubelet.endpoints[-1]

    await site.kubelet.restart()

    await eventually(lambda: len(site.kubelet.healthy) == 24, "registration with the new kubelet")
    assert site.kubelet.endpoints[-1] != first
    assert [path.name for path in site.kubelet.plugins.glob("arbiter-*")] == [site.kubelet.endpoints[-1]]


async def test_the_plugin_registers_anew_when_its_own_socket_is_removed(site: Site) -> None:
    first = site.kubelet.endpoints[-1]

    (site.kubelet.plugins / first).unlink()

    await eventually(lambda: len(site.kubelet.endpoints) == 2, "second registration")
    await eventually(lambda: len(site.kubelet.healthy) == 24, "healthy slices")
    assert site.kubelet.endpoints[-1] != first
    assert site.kubelet.streams == 1


async def test_a_kubelet_that_was_away_for_a_while_is_waited_for(site: Site) -> None:
    await site.kubelet.stop()
    await eventually(lambda: "registration lost" in site.agent.log, "notice of the loss")

    await site.kubelet.start()

    await eventually(lambda: len(site.kubelet.healthy) == 24, "registration with the new kubelet")


async def test_a_kubelet_that_listens_and_refuses_is_asked_again(site: Site) -> None:
    site.kubelet.refusals = 3
    await site.kubelet.restart()

    await eventually(lambda: len(site.kubelet.healthy) == 24, "registration")

    assert site.kubelet.refusals == 0
    failed = await site.agent.metric("arbiter_registration_total", result="failed")
    assert failed is not None
    assert failed >= 3


async def test_a_gpu_that_fails_takes_only_its_own_slices_with_it_and_comes_back(site: Site) -> None:
    site.place.write_gpus(gpu(0), gpu(1, healthy=False, reason="XID 79"))
    await eventually(lambda: site.kubelet.healthy == {f"GPU-0::{n}" for n in range(12)}, "GPU-1 unhealthy")
    assert len(site.kubelet.devices) == 24
    lists = site.kubelet.lists

    site.place.write_gpus(gpu(0, used=1 << 30), gpu(1))
    await eventually(lambda: len(site.kubelet.healthy) == 24, "GPU-1 healthy again")
    assert site.kubelet.lists == lists + 1


async def test_an_agent_that_comes_after_one_that_was_killed_leaves_no_socket_behind(site: Site) -> None:
    site.agent.kill()
    site.agent.start()
    await site.agent.ready()

    assert [path.name for path in site.kubelet.plugins.glob("arbiter-*")] == [site.kubelet.endpoints[-1]]


async def test_kubelets_that_come_and_go_leave_nothing_behind(site: Site) -> None:
    await restarted(site, times=3)
    before = site.agent.footprint()

    await restarted(site, times=9)

    after = site.agent.footprint()
    assert after.descriptors <= before.descriptors + 2  # connections to the API server come and go
    assert after.threads <= before.threads + 1


async def restarted(site: Site, *, times: int) -> None:
    for _ in range(times):
        await site.kubelet.restart()
        await eventually(lambda: len(site.kubelet.healthy) == 24, "registration with the new kubelet")
