"""The operator's writes: patches of pods' annotations and of status, evictions; a bound on how many are under way.

What is gone is no error here: the watch tells of it. What was changed meanwhile is: the caller decides anew.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pydantic import BaseModel

from arbiter_kube.api.fields import ObjectMeta
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.resources import PODS, Resource
from arbiter_kube.client import KubeClient, NotFound, NotLeadingError

T = TypeVar("T")

CONCURRENT_WRITES = 16

_log = logging.getLogger(__name__)


class Writer:
    """Raises KubeError where the API server cannot be reached or refuses; the caller tries again later."""

    def __init__(self, client: KubeClient, *, may_write: Callable[[], bool]) -> None:
        """`may_write` says whether this replica leads at this very moment."""
        self._client = client
        self._may_write = may_write
        self._under_way = asyncio.Semaphore(CONCURRENT_WRITES)

    async def annotate(self, pod: GpuPod, annotations: Mapping[str, str]) -> Pod | None:
        """The pod with these annotations; None where it is gone."""
        # The UID keeps a namesake that was made meanwhile from getting them.
        body = {"metadata": {"uid": pod.uid, "annotations": annotations}}
        async with self._turn():
            try:
                return await self._client.patch(PODS, pod.name, body, namespace=pod.namespace)
            except NotFound as error:
                _log.info("pod gone before a write pod=%s error=%s", pod.key, error)
                return None

    async def evict(self, pod: GpuPod, *, dry_run: bool) -> bool:
        """Evicts the pod, or with `dry_run` asks whether that may be done; False where it is gone by itself.

        Raises:
            EvictionRefused: a PodDisruptionBudget protects it now, or there are several.
            Forbidden: somebody else keeps it from being evicted.
        """
        async with self._turn():
            try:
                await self._client.evict(ObjectKey(pod.namespace, pod.name), uid=pod.uid, dry_run=dry_run)
            except NotFound as error:
                _log.info("pod gone before its eviction pod=%s error=%s", pod.key, error)
                return False
        return True

    async def status(self, resource: Resource[T], of: ObjectMeta, status: BaseModel) -> T | None:
        """The object with this status; None where it is gone.

        Raises:
            Conflict: it is another version by now than the one that the status was decided from, `of`: what comes late
                takes back nothing that is newer, neither its sentences nor its times.
        """
        key = ObjectKey(of.namespace, of.name)
        body = {"metadata": {"resourceVersion": of.resource_version}, "status": _whole(status)}
        async with self._turn():
            try:
                return await self._client.patch(
                    resource, key.name, body, namespace=key.namespace or None, subresource="status"
                )
            except NotFound as error:
                _log.info("object gone before its status object=%s error=%s", key, error)
                return None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of the writes under way.

        A process that stood still (a paused machine, no CPU) goes on with what it had decided, before anybody has
        cancelled it; another replica may lead by then. So whether we lead is asked last of all.

        Raises:
            NotLeadingError: we do not.
        """
        async with self._under_way:
            if not self._may_write():
                raise NotLeadingError("nothing is written: this replica does not lead")
            yield


def _whole(status: BaseModel) -> dict[str, Any]:
    """A merge patch that leaves nothing of the former status: absent fields are null."""
    present = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    absent = {field.alias or name for name, field in type(status).model_fields.items()} - present.keys()
    return present | dict.fromkeys(absent)
