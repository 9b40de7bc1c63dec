"""What is known of the node's pods while one of them is being fetched."""

import asyncio
from typing import cast

from arbiter.ids import NodeName, PodUid
from arbiter_deviceplugin.pods import NodePods
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.client import KubeClient, codec

KEY = ObjectKey("team", "chat")


def pod(uid: str, *, version: str = "1", vram: str = "4") -> Pod:
    text = f"""{{
      "metadata": {{"name": "chat", "namespace": "team", "uid": "{uid}", "resourceVersion": "{version}",
                    "creationTimestamp": "2026-01-01T00:00:00Z"}},
      "spec": {{"nodeName": "n1", "containers": [
        {{"name": "main", "resources": {{"limits": {{"arbiter.infernum.io/vram": "{vram}"}}}}}}]}},
      "status": {{"phase": "Pending"}}
    }}"""
    return codec.decode(text.encode(), Pod)


class SlowServer:
    """Answers a GET when it is told to, with the pod that it was asked for."""

    def __init__(self, answer: Pod) -> None:
        self._answer = answer
        self.asked, self.let_go = asyncio.Event(), asyncio.Event()

    async def get(self, *_: object, **__: object) -> Pod:
        self.asked.set()
        await self.let_go.wait()
        return self._answer


def node_pods(server: SlowServer) -> NodePods:
    return NodePods(cast("KubeClient", server), node=NodeName("n1"), unit=1 << 30)


async def test_what_was_fetched_is_known() -> None:
    server = SlowServer(pod("u1"))
    pods = node_pods(server)
    server.let_go.set()

    fetched = await pods.fetch(KEY)

    assert fetched is not None
    assert pods.asking_of(PodUid("u1")) == fetched


def test_a_pod_that_asks_for_nothing_ends_what_one_of_its_name_asked_for() -> None:
    pods = node_pods(SlowServer(pod("u1")))
    pods.apply(pod("u1"))

    pods.apply(pod("u2", vram="0"))
    pods.remove(pod("u1"))

    assert pods.asking_of(PodUid("u1")) is None


async def test_an_answer_takes_back_nothing_that_the_watch_has_shown_meanwhile() -> None:
    server = SlowServer(pod("u1", version="1"))
    pods = node_pods(server)
    fetch = asyncio.create_task(pods.fetch(KEY))
    await server.asked.wait()
    newer = pods.apply(pod("u2", version="2"))
    server.let_go.set()

    assert await fetch == newer
    assert pods.by_uid().keys() == {"u2"}


async def test_an_answer_brings_no_pod_back_that_was_deleted_meanwhile() -> None:
    server = SlowServer(pod("u1"))
    pods = node_pods(server)
    fetch = asyncio.create_task(pods.fetch(KEY))
    await server.asked.wait()
    pods.apply(pod("u1"))
    pods.remove(pod("u1"))
    server.let_go.set()

    assert await fetch is None
    assert pods.by_uid() == {}


async def test_an_answer_brings_no_pod_back_that_a_list_lacks() -> None:
    server = SlowServer(pod("u1"))
    pods = node_pods(server)
    fetch = asyncio.create_task(pods.fetch(KEY))
    await server.asked.wait()
    pods.keep(())
    server.let_go.set()

    assert await fetch is None
