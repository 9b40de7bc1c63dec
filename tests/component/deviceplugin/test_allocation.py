"""Which slices a pod gets, and what comes with them."""

import asyncio

from arbiter.units import GIB
from arbiter_deviceplugin.slices import SliceId, gpus_of
from tests.component.deviceplugin.support import Site, eventually
from tests.unit.extender.builders import a_pod


async def test_a_pod_gets_slices_of_the_gpu_that_it_was_assigned(site: Site) -> None:
    await site.add_pod(a_pod("chat"), gpus=("GPU-1",))

    container = await site.kubelet.admit(site.namespace, "chat", size=4)

    assert container.preferred == ("GPU-1::0", "GPU-1::1", "GPU-1::2", "GPU-1::3")


async def test_a_pod_on_two_gpus_gets_half_of_its_slices_on_each(site: Site) -> None:
    await site.add_pod(a_pod("chat").gpus(2), gpus=("GPU-0", "GPU-1"))

    container = await site.kubelet.admit(site.namespace, "chat", size=8)

    assert container.preferred == (*(f"GPU-0::{n}" for n in range(4)), *(f"GPU-1::{n}" for n in range(4)))


async def test_pods_that_are_admitted_in_another_order_than_they_were_bound_get_their_own_gpus(site: Site) -> None:
    assigned = {"a": "GPU-1", "b": "GPU-0", "c": "GPU-1", "d": "GPU-0"}
    for name, gpu in assigned.items():
        await site.add_pod(a_pod(name), gpus=(gpu,))

    got = {name: await site.kubelet.admit(site.namespace, name, size=4) for name in ("c", "d", "b", "a")}

    assert {name: gpus_of(map(SliceId, container.preferred)) for name, container in got.items()} == {
        name: (gpu,) for name, gpu in assigned.items()
    }


async def test_a_pod_that_nobody_assigned_gets_all_its_slices_on_one_gpu(site: Site) -> None:
    await site.add_pod(a_pod("chat"), gpus=())

    container = await site.kubelet.admit(site.namespace, "chat", size=5)

    assert len(set(container.preferred)) == 5
    assert len(gpus_of(map(SliceId, container.preferred))) == 1


async def test_each_allocation_has_a_fresh_directory_mounted_read_only(site: Site) -> None:
    for name in ("chat", "posters"):
        await site.add_pod(a_pod(name))
    chat = await site.kubelet.admit(site.namespace, "chat", size=4)
    posters = await site.kubelet.admit(site.namespace, "posters", size=4)

    assert chat.directory != posters.directory
    for container in (chat, posters):
        mounts = [(mount.container_path, mount.host_path, mount.read_only) for mount in container.allocated.mounts]
        assert mounts == [
            ("/run/arbiter", str(container.directory), True),
            ("/run/arbiter/bin", str(site.place.state / "bin"), True),
        ]
        assert dict(container.allocated.envs) == {"ARBITER_DIR": "/run/arbiter"}
        assert container.directory.stat().st_mode & 0o777 == 0o755
        assert list(container.directory.iterdir()) == [container.directory / "bin"]
    assert [path.name for path in (site.place.state / "bin").iterdir()] == ["arbiter-run"]


async def test_slices_of_a_pod_deleted_by_force_come_with_another_directory(site: Site) -> None:
    first = await site.run(a_pod("chat"))
    await site.force_delete(first.pod)
    site.kubelet.forget(first.container)
    await site.add_pod(a_pod("chat").sizes(full="12Gi", floor="12Gi"))

    # All twelve slices of the GPU are free for the kubelet, those of the former pod among them.
    second = await site.kubelet.admit(site.namespace, "chat", size=12)

    assert second.directory != first.container.directory
    assert set(second.preferred) >= set(first.container.preferred)


async def test_a_pod_whose_kubelet_has_lost_its_books_gets_slices_of_its_gpu_again(site: Site) -> None:
    await site.run(a_pod("posters").sizes(full="6Gi", floor="6Gi"), gpus=("GPU-0",))  # a GPU that fits more tightly
    first = await site.run(a_pod("chat"), gpus=("GPU-1",))
    site.kubelet.forget(first.container)

    second = await site.kubelet.admit(site.namespace, "chat", size=4)

    assert gpus_of(map(SliceId, second.preferred)) == ("GPU-1",)
    assert await site.kubelet.prestart(second) == ""


async def test_slices_that_a_confused_kubelet_offers_again_are_given_to_nobody_else(site: Site) -> None:
    await site.add_pod(a_pod("chat"))
    await site.add_pod(a_pod("posters"))
    chat = await site.kubelet.admit(site.namespace, "chat", size=4)
    ids, chat.ids = chat.ids, ()  # whoever asks it for its list in the wrong moment makes it forget what it gave

    posters = await site.kubelet.admit(site.namespace, "posters", size=4)

    assert set(posters.ids).isdisjoint(ids)
    assert gpus_of(map(SliceId, posters.ids)) == ("GPU-0",)


async def test_the_kubelet_is_asked_nothing_while_it_waits_for_slices(site: Site) -> None:
    await site.add_pod(a_pod("chat"))

    await site.kubelet.admit(site.namespace, "chat", size=4)

    assert site.kubelet.asked_in_allocate == 0


async def test_a_pod_stays_on_its_gpu_when_the_kubelet_still_counts_the_slices_of_one_deleted_by_force(
    site: Site,
) -> None:
    former = await site.run(a_pod("former").sizes(full="10Gi", floor="10Gi"), gpus=("GPU-0",))
    neighbour = await site.run(a_pod("neighbour").sizes(full="12Gi", floor="4Gi"), gpus=("GPU-1",))
    await site.force_delete(former.pod)
    site.processes.end(former.process)

    chat = await site.run(a_pod("chat").sizes(full="10Gi", floor="4Gi"), gpus=("GPU-0",))

    assert chat.container.ids == ("GPU-0::10", "GPU-0::11", "GPU-1::4", "GPU-1::5")
    assert (chat.engine.target["vramBytes"], chat.engine.target["gpus"]) == (10 * GIB, ["GPU-0"])
    grant = await site.eventually_grant(chat.pod, lambda grant: grant.granted == 10 * GIB, "grant")
    assert grant.gpus == ["GPU-0"]
    held = await site.grant(neighbour.pod)
    assert held is not None
    assert held.granted == 12 * GIB


async def test_the_kubelets_truth_about_slices_is_published(site: Site) -> None:
    running = await site.run(a_pod("chat"), gpus=("GPU-1",))

    async def counts() -> list[tuple[str, str, str, int]] | None:
        status = await site.status()
        return [(s.pod, s.container, s.gpu, s.slices) for s in status.slices] if status else None

    assert await eventually(counts, "slices in GpuNode") == [("chat", "main", "GPU-1", 4)]
    assert running.container.ids == running.container.preferred


async def test_a_second_container_of_a_pod_is_refused_with_a_sentence(site: Site) -> None:
    await site.add_pod(a_pod("chat"))
    container = await site.kubelet.admit(site.namespace, "chat", size=4, name="sidecar")

    assert await site.kubelet.prestart(container) == (
        f"start held: only one container of a pod may hold VRAM, and in {site.namespace}/chat that is main, not sidecar"
    )


async def test_forty_pods_are_admitted_and_let_go_together(site: Site) -> None:
    site.place.write_gpus({"uuid": "GPU-0", "index": 0, "total": 200 << 30})
    await eventually(lambda: len(site.kubelet.healthy) == 200, "larger GPU")
    names = [f"pod-{number}" for number in range(40)]
    await asyncio.gather(*(site.add_pod(a_pod(name), target=("0.400", 4 << 30)) for name in names))

    containers = [await site.kubelet.admit(site.namespace, name, size=4) for name in names]
    answers = await asyncio.gather(*(site.kubelet.prestart(container) for container in containers))

    assert answers == [""] * 40
    held = {identifier for container in containers for identifier in container.ids}
    assert len(held) == 160
