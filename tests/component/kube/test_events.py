"""Kubernetes events on a real API server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest

from arbiter_kube.api.objects import Event, ObjectReference
from arbiter_kube.api.resources import EVENTS, NODES, PODS
from arbiter_kube.client import EventRecorder, EventType, KubeClient, Notice, reference
from tests.component.kube.support import Cable
from tests.support.patience import PATIENCE

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@asynccontextmanager
async def running(recorder: EventRecorder) -> AsyncIterator[None]:
    task = asyncio.create_task(recorder.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def notice(about: ObjectReference, message: str = "Waits for 4Gi.") -> Notice:
    return Notice(about=about, type=EventType.WARNING, reason="InsufficientMemory", message=message)


async def told(client: KubeClient, namespace: str, *, count: int) -> tuple[Event, ...]:
    """The namespace's events, once their counts add up."""
    async with asyncio.timeout(PATIENCE):
        while True:
            events = await client.list(EVENTS, namespace=namespace)
            if sum(event.count for event in events) >= count:
                return events
            await asyncio.sleep(0.02)


async def pod(client: KubeClient, namespace: str) -> ObjectReference:
    body = {"metadata": {"name": "pod"}, "spec": {"containers": [{"name": "main", "image": "none"}]}}
    return reference(PODS, (await client.create(PODS, body, namespace=namespace)).metadata)


async def test_an_event_says_who_tells_what_about_whom(client: KubeClient, namespace: str) -> None:
    about = await pod(client, namespace)
    recorder = EventRecorder(client, component="arbiter-operator", clock=lambda: NOON)
    async with running(recorder):
        recorder.record(notice(about))
        (event,) = await told(client, namespace, count=1)
    assert (event.type, event.reason, event.message) == ("Warning", "InsufficientMemory", "Waits for 4Gi.")
    assert event.involved_object == about
    assert (event.source.component, event.reporting_component) == ("arbiter-operator", "arbiter-operator")
    assert (event.first_timestamp, event.last_timestamp, event.count) == (NOON, NOON, 1)


async def test_repetitions_are_counted_in_one_event(client: KubeClient, namespace: str) -> None:
    about = await pod(client, namespace)
    recorder = EventRecorder(client, component="test")
    async with running(recorder):
        for expected in (3, 6):
            for _ in range(3):
                recorder.record(notice(about))
            (event,) = await told(client, namespace, count=expected)
            assert event.count == expected


async def test_another_sentence_is_another_event(client: KubeClient, namespace: str) -> None:
    about = await pod(client, namespace)
    recorder = EventRecorder(client, component="test")
    async with running(recorder):
        recorder.record(notice(about))
        recorder.record(notice(about, "Waits for 5Gi."))
        events = await told(client, namespace, count=2)
    assert {event.message for event in events} == {"Waits for 4Gi.", "Waits for 5Gi."}


async def test_an_event_that_has_expired_is_written_anew(client: KubeClient, namespace: str) -> None:
    about = await pod(client, namespace)
    recorder = EventRecorder(client, component="test")
    async with running(recorder):
        recorder.record(notice(about))
        (event,) = await told(client, namespace, count=1)
        await client.delete(EVENTS, event.metadata.name, namespace=namespace)
        recorder.record(notice(about))
        (again,) = await told(client, namespace, count=1)
    assert (again.count, again.metadata.name != event.metadata.name) == (1, True)


async def test_a_sentence_that_is_too_long_is_cut(client: KubeClient, namespace: str) -> None:
    recorder = EventRecorder(client, component="test")
    async with running(recorder):
        recorder.record(notice(await pod(client, namespace), "ü" * 1000))
        (event,) = await told(client, namespace, count=1)
    assert event.message == "ü" * 512


async def test_an_event_of_an_object_without_namespace_is_where_kubectl_looks(client: KubeClient) -> None:
    node = await client.create(NODES, {"metadata": {"name": "told-about"}})
    recorder = EventRecorder(client, component="test")
    async with running(recorder):
        recorder.record(notice(reference(NODES, node.metadata)))
        (event,) = [
            event for event in await told(client, "default", count=1) if event.involved_object.name == "told-about"
        ]
    assert event.metadata.namespace == "default"


async def test_recording_outlives_an_api_server_that_is_away(
    distant: KubeClient, client: KubeClient, cable: Cable, namespace: str
) -> None:
    about = await pod(client, namespace)
    recorder = EventRecorder(distant, component="test")
    async with running(recorder):
        await cable.cut()
        recorder.record(notice(about))
        await asyncio.sleep(0.2)
        await cable.open()
        (event,) = await told(client, namespace, count=1)
    assert event.count == 1


async def test_who_may_not_tell_writes_nothing_of_it(client: KubeClient, namespace: str) -> None:
    about, may_tell = await pod(client, namespace), False
    recorder = EventRecorder(client, component="test", may_tell=lambda: may_tell)
    recorder.record(notice(about, "before"))
    may_tell = True
    recorder.record(notice(about, "after"))
    async with running(recorder):
        (event,) = await told(client, namespace, count=1)
    assert event.message == "after"


async def test_too_many_notices_are_counted_and_forgotten(
    client: KubeClient, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    about = await pod(client, namespace)
    recorder = EventRecorder(client, component="test", capacity=2)
    for message in ("a", "b", "c", "a"):
        recorder.record(notice(about, message))
    assert recorder.dropped == 1
    async with running(recorder):
        events = await told(client, namespace, count=3)
    assert {event.message: event.count for event in events} == {"a": 2, "b": 1}
    assert "events dropped count=1" in caplog.messages
