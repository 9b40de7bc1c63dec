"""Writes the node's GpuNode: made where it is missing, its status applied whenever it changes, measured use seldom."""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from arbiter.ids import NodeName, NodeUid
from arbiter_deviceplugin.gpunode import without_use
from arbiter_kube.api.gpunode import GpuNodeStatus
from arbiter_kube.api.objects import Node, ObjectMeta, OwnerReference, PartialObject
from arbiter_kube.api.reports import counts_for, node_of
from arbiter_kube.api.resources import GPU_NODES, NODES
from arbiter_kube.client import KubeClient, KubeError, NotFound, PatchType
from arbiter_kube.client.backoff import Backoff

_log = logging.getLogger(__name__)

_USE_INTERVAL = 10.0
"""Least seconds between two writes that tell nothing but measured use."""

_LOOK_INTERVAL = 60.0
"""Seconds after which it is looked at what is there, where nothing was written: somebody may have deleted it."""

_LEAST_INTERVAL = 0.02
"""Between any two writes: what happens together is told together."""


class Publisher:
    """Keep `run()` going and call `wake()` whenever something may have changed."""

    def __init__(
        self, client: KubeClient, *, node: NodeName, status: Callable[[GpuNodeStatus | None, datetime], GpuNodeStatus]
    ) -> None:
        """`status` is what is to be said now, by what was said before and the time."""
        self._client = client
        self._node = node
        self._status = status
        self._something = asyncio.Event()
        self._written: GpuNodeStatus | None = None
        self._written_at = 0.0
        self._look_at = 0.0

    def wake(self) -> None:
        """Something may have changed."""
        self._something.set()

    async def run(self) -> None:
        """Writes until it is cancelled; an API server that is away is waited for."""
        backoff = Backoff(first=0.1, ceiling=5.0)
        while True:
            try:
                await self._follow(backoff)
            except KubeError as error:
                _log.warning("gpunode not written error=%s", error)
                await asyncio.sleep(backoff.next())

    async def _follow(self, backoff: Backoff) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            if self._written is None or clock() >= self._look_at:
                self._written = await self._found(backoff)
                self._look_at = clock() + _LOOK_INTERVAL
            self._something.clear()
            status = self._status(self._written, datetime.now(UTC))
            patience = self._patience(status, before=self._written)
            if patience == 0:
                await self._write(status)
                backoff.reset()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(patience, self._look_at - clock())):
                        await self._something.wait()
            await asyncio.sleep(_LEAST_INTERVAL)

    async def _found(self, backoff: Backoff) -> GpuNodeStatus:
        """What the GpuNode says, once it is this node's."""
        while (found := await self._make()) is None:
            _log.warning("GpuNode of a former node of this name is there, until it is deleted with that")
            await asyncio.sleep(backoff.next())
        return found

    def _patience(self, status: GpuNodeStatus, *, before: GpuNodeStatus) -> float:
        """Seconds for which the status may stay unwritten; infinite where it says nothing new."""
        if status == before:
            return math.inf
        if without_use(status) != without_use(before):
            return 0
        return max(0.0, self._written_at + _USE_INTERVAL - asyncio.get_running_loop().time())

    async def _write(self, status: GpuNodeStatus) -> None:
        body = {"metadata": {"name": self._node}, "status": status}
        try:
            await self._client.patch(
                GPU_NODES, self._node, body, subresource="status", kind=PatchType.APPLY, force=True
            )
        except NotFound:
            self._written = None
            raise
        self._written = status
        self._written_at = asyncio.get_running_loop().time()
        self._look_at = self._written_at + _LOOK_INTERVAL

    async def _make(self) -> GpuNodeStatus | None:
        """What the GpuNode says now; it is made where it is missing, to be deleted together with its Node.

        None while there is that of a former node of this name, which is about to be deleted with all that is written.
        """
        node = await self._client.get(NODES, self._node)
        try:
            made = await self._client.get(GPU_NODES, self._node)
        except NotFound:
            body = PartialObject(metadata=ObjectMeta(name=self._node, owner_references=(_owner(node),)))
            made = await self._client.create(GPU_NODES, body)
        told_of = node_of(made.metadata.owner_references)
        return made.status if counts_for(NodeUid(node.metadata.uid), told_of=told_of) else None


def _owner(node: Node) -> OwnerReference:
    return OwnerReference(api_version=NODES.api_version, kind=NODES.kind, name=node.name, uid=node.metadata.uid)
