"""Reflectors against a real API server that restarts, disappears and falls silent."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import msgspec
import pytest

from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.resources import PODS, Resource
from arbiter_kube.client import KubeClient, Reflector, ReflectorEvent, ReflectorTiming, Synced
from hack.cluster.controlplane import ControlPlane
from tests.component.kube.support import Cable, Follow, Followed
from tests.support.patience import PATIENCE

QUICK = ReflectorTiming(page_size=2, idle=1.0, backoff_first=0.05, backoff_ceiling=0.2)


def told(events: list[ReflectorEvent[Pod]]) -> list[str]:
    """Events as words: what happened to which pod, and the value of its label `v`."""
    return [
        "Synced"
        if isinstance(event, Synced)
        else " ".join([type(event).__name__, event.object.metadata.name, *event.object.metadata.labels.values()])
        for event in events
    ]


async def make_pod(client: KubeClient, namespace: str, name: str, **labels: str) -> Pod:
    body = {
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    return await client.create(PODS, body, namespace=namespace)


async def label(client: KubeClient, namespace: str, name: str, value: str) -> None:
    await client.patch(PODS, name, {"metadata": {"labels": {"v": value}}}, namespace=namespace)


async def remove(client: KubeClient, namespace: str, name: str) -> None:
    """Deletes a pod at once, which is told twice: as marked for deletion, then as deleted."""
    await client.delete(PODS, name, namespace=namespace, grace=0)


@pytest.fixture
def restart(control_plane: ControlPlane) -> Callable[[], None]:
    """Restarts the API server, which then has no history of what was before: it answers 410 to older versions."""

    # Not in a thread: the server would end with the thread that started it.
    def restart() -> None:
        control_plane.stop_apiserver()
        control_plane.start_apiserver()

    return restart


@pytest.fixture
async def following(distant: KubeClient, namespace: str, follow: Follow) -> Followed[Pod]:
    """The namespace's pods, followed through the cable."""
    return follow(Reflector(distant, PODS, namespace=namespace, timing=QUICK))


async def test_what_exists_is_told_page_by_page_then_what_happens(
    client: KubeClient, namespace: str, follow: Follow
) -> None:
    for name in ("a", "b", "c", "d", "e"):
        await make_pod(client, namespace, name)
    following = follow(Reflector(client, PODS, namespace=namespace, timing=QUICK))
    assert told(await following.take(6)) == [*(f"Applied {name}" for name in "abcde"), "Synced"]
    assert following.reflector.synced.is_set()

    await label(client, namespace, "a", "2")
    await remove(client, namespace, "b")
    await make_pod(client, namespace, "f")
    assert told(await following.take(4)) == ["Applied a 2", "Applied b", "Deleted b", "Applied f"]
    assert {key.name for key in following.reflector.objects} == set("acdef")
    assert following.reflector.objects[ObjectKey(namespace, "a")].metadata.labels == {"v": "2"}
    assert following.reflector.age() < 30


async def test_only_selected_objects_are_told(client: KubeClient, namespace: str, follow: Follow) -> None:
    await make_pod(client, namespace, "a", v="1")
    await make_pod(client, namespace, "b", v="2")
    following = follow(
        Reflector(client, PODS, namespace=namespace, label_selector="v=1", field_selector="spec.nodeName=")
    )
    assert told(await following.take(2)) == ["Applied a 1", "Synced"]
    await label(client, namespace, "a", "2")
    assert told(await following.take(1)) == ["Deleted a 1"]


async def test_a_cut_connection_is_resumed_where_it_broke(
    client: KubeClient, cable: Cable, namespace: str, following: Followed[Pod]
) -> None:
    await make_pod(client, namespace, "a")
    await make_pod(client, namespace, "b")
    await following.take(3)
    await cable.cut()
    await remove(client, namespace, "a")
    await label(client, namespace, "b", "2")
    await cable.open()
    # No Synced among them: the watch went on from the last version, nothing was listed again.
    assert told(await following.take(3)) == ["Applied a", "Deleted a", "Applied b 2"]


async def test_a_connection_that_fell_silent_is_noticed(
    client: KubeClient, cable: Cable, namespace: str, following: Followed[Pod]
) -> None:
    await following.take(1)
    cable.fall_silent()
    await make_pod(client, namespace, "a")
    assert told(await following.take(1)) == ["Applied a"]


async def test_a_network_that_is_gone_is_noticed_long_before_its_silence_is(
    client: KubeClient, distant: KubeClient, cable: Cable, namespace: str, follow: Follow
) -> None:
    following = follow(Reflector(distant, PODS, namespace=namespace, timing=replace(QUICK, idle=10 * PATIENCE)))
    await following.take(1)
    cable.lose_everything()
    await make_pod(client, namespace, "a")
    assert told(await following.take(1)) == ["Applied a"]


async def test_deletions_that_the_api_server_no_longer_remembers_are_told(
    client: KubeClient, cable: Cable, namespace: str, following: Followed[Pod], restart: Callable[[], None]
) -> None:
    for name in ("changed", "gone", "recreated", "untouched"):
        await make_pod(client, namespace, name, v="1")
    await following.take(5)

    await cable.cut()
    await remove(client, namespace, "gone")
    await remove(client, namespace, "recreated")
    await make_pod(client, namespace, "recreated", v="2")
    await label(client, namespace, "changed", "2")
    restart()
    await cable.open()

    assert told(await following.take(5)) == [
        "Deleted gone 1",
        "Applied changed 2",
        "Deleted recreated 1",
        "Applied recreated 2",
        "Synced",
    ]


async def test_an_object_that_cannot_be_read_is_skipped_and_counted(
    client: KubeClient, namespace: str, follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    class Meta(msgspec.Struct):
        name: str
        labels: dict[str, Literal["1", "2", "3"]]

    class Fussy(msgspec.Struct):
        metadata: Meta

    fussy_pods = Resource(model=Fussy, version="v1", plural="pods", kind="Pod", namespaced=True)
    await make_pod(client, namespace, "broken", v="bad")
    await make_pod(client, namespace, "good", v="1")
    following = follow(Reflector(client, fussy_pods, namespace=namespace, timing=QUICK))
    assert told(await following.take(2)) == ["Applied good 1", "Synced"]
    assert following.reflector.unreadable == 1
    assert f"object skipped object={namespace}/broken error=not a Fussy: Invalid enum value 'bad'" in caplog.text

    await label(client, namespace, "good", "worse")
    await label(client, namespace, "broken", "2")
    assert told(await following.take(1)) == ["Applied broken 2"]
    assert following.reflector.unreadable == 2
    assert following.reflector.objects[ObjectKey(namespace, "good")].metadata.labels == {"v": "1"}

    await label(client, namespace, "good", "3")
    await remove(client, namespace, "good")
    assert told(await following.take(3)) == ["Applied good 3", "Applied good 3", "Deleted good 3"]
