"""Keeps the cluster's state in step with the API server: what is watched, what is listed again, what wakes the engine.

GpuAllocations and QualityPolicies are watched by kopf, which never tells of objects that vanished while nobody
watched: a list does, from time to time and whenever kopf begins anew.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.resources import GPU_ALLOCATIONS, GPU_NODES, NODES, PODS, QUALITY_POLICIES, Resource
from arbiter_kube.client import KubeClient, KubeError, Reflector, UnreadableError, codec
from arbiter_kube.client.backoff import Backoff
from arbiter_kube.client.client import Selection
from arbiter_kube.client.store import identity_of
from arbiter_operator.cluster import Cluster

RELIST_INTERVAL = 60.0

SETTLED_AFTER = 1.0
"""Seconds without a word that kopf begins anew: it says so of each object, so that one list answers for all."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Feed:
    """Three reflectors, and lists of the two kinds that kopf watches."""

    def __init__(self, client: KubeClient, cluster: Cluster, *, wake: Callable[[], None]) -> None:
        """`wake` is called after everything that may matter."""
        self._client = client
        self._cluster = cluster
        self._wake = wake
        self._pods = Reflector(client, PODS)
        self._nodes = Reflector(client, NODES)
        self._reports = Reflector(client, GPU_NODES)
        self._listed = asyncio.Event()
        self._began_anew = asyncio.Event()

    def watch_began_anew(self) -> None:
        """What vanished before it did, it has not told."""
        self._began_anew.set()

    def obstacle(self) -> str | None:
        """What has not been seen as a whole yet, in one sentence; None once everything has."""
        missing = [kind for kind, event in self._complete().items() if not event.is_set()]
        return f"The lists of {', '.join(missing)} are not complete yet." if missing else None

    async def synced(self) -> None:
        """Returns once everything has been seen as a whole: before, who is missing cannot be known."""
        for event in self._complete().values():
            await event.wait()

    async def run(self) -> None:
        """Feeds the state until it is cancelled."""
        cluster = self._cluster
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(self._pods, applied=cluster.pod_applied, deleted=cluster.pod_deleted))
            group.create_task(self._follow(self._nodes, applied=cluster.node_applied, deleted=cluster.node_deleted))
            group.create_task(
                self._follow(self._reports, applied=cluster.report_applied, deleted=cluster.report_deleted)
            )
            group.create_task(self._list_again())

    def _complete(self) -> dict[str, asyncio.Event]:
        return {
            "pods": self._pods.synced,
            "nodes": self._nodes.synced,
            "GpuNodes": self._reports.synced,
            "GpuAllocations and QualityPolicies": self._listed,
        }

    async def _follow(
        self, reflector: Reflector[T], *, applied: Callable[[T], None], deleted: Callable[[T], None]
    ) -> None:
        async for _ in reflector.applying(applied=applied, deleted=deleted):
            self._wake()

    async def _list_again(self) -> None:
        backoff = Backoff()
        while True:
            policies_before, allocations_before = {*self._cluster.policies}, {*self._cluster.allocations}
            try:
                policies, strange_policies = await self._readable(QUALITY_POLICIES)
                allocations, strange_allocations = await self._readable(GPU_ALLOCATIONS)
            except KubeError as error:
                _log.warning("lists not renewed error=%s", error)
                await asyncio.sleep(backoff.next())
                continue
            self._cluster.policies_listed(policies, before=policies_before - {key.name for key in strange_policies})
            self._cluster.allocations_listed(allocations, before=allocations_before - strange_allocations)
            self._listed.set()
            self._wake()
            backoff.reset()
            await self._until_due()

    async def _until_due(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(RELIST_INTERVAL):
                await self._began_anew.wait()
        while self._began_anew.is_set():
            self._began_anew.clear()
            await asyncio.sleep(SETTLED_AFTER)

    async def _readable(self, resource: Resource[T]) -> tuple[list[T], set[ObjectKey]]:
        """Everything of a kind, and who of it cannot be read: one object, which is anybody's, must not hide all others.

        What an older schema let in keeps its last readable form.
        """
        readable, strange = list[T](), set[ObjectKey]()
        page = await self._client.page(resource, Selection())
        for item in page.items or ():
            try:
                readable.append(codec.decode(item, resource.model))
            except UnreadableError as error:
                key = identity_of(item).key
                _log.warning("object skipped object=%s error=%s", key, error)
                strange.add(key)
        return readable, strange
