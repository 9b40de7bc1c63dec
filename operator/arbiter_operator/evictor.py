"""Carries evictions out, and remembers since when GPUs and pods are in trouble.

Decisions are in `evictions`. What is remembered is only ever too short: a restart gives everybody their time anew.
"""

import asyncio
import logging
from collections.abc import Callable

from arbiter.ids import NodeName
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.client import EvictionRefused, Forbidden, KubeError
from arbiter_kube.client.events import EventRecorder
from arbiter_operator.agenda import steady_time
from arbiter_operator.evictions import Eviction, Found, evictions, next_at, troubles
from arbiter_operator.metrics import EVICTIONS
from arbiter_operator.node import NodeState
from arbiter_operator.notices import evicted_notices
from arbiter_operator.protected import Protected
from arbiter_operator.writer import Writer

AGAIN_AFTER = 10.0
"""Seconds until it is looked again at whether everybody who has to leave does."""

NEXT_AFTER = 1.0
"""Seconds until others go in the place of one that may not: by then the watch has shown who is leaving."""

_log = logging.getLogger(__name__)


class Evictor:
    """`allocation_of` finds a pod's allocation for its events; `clock`: seconds since the epoch."""

    def __init__(
        self,
        *,
        writer: Writer,
        recorder: EventRecorder,
        protected: Protected,
        allocation_of: Callable[[GpuPod], GpuAllocation | None],
        clock: Callable[[], float],
    ) -> None:
        self._writer = writer
        self._recorder = recorder
        self._protected = protected
        self._allocation_of = allocation_of
        self._clock = clock
        self._since: dict[NodeName, dict[Found, float]] = {}

    async def look(self, state: NodeState) -> float | None:
        """Evicts whom the node's GPUs can keep no longer; after how many seconds to look again if nothing happens."""
        now, steady = self._clock(), steady_time()
        before = self._since.get(state.name, {})
        begun = self._since[state.name] = {each: before.get(each, steady) for each in troubles(state, now=now)}
        # Deletions are told in the time of day; how long a trouble has lasted does not change when that is set.
        since = {each: now - (steady - at) for each, at in begun.items()}
        due = evictions(state, now=now, since=since, spared=self._protected.at(steady))
        refused = await asyncio.gather(*(self._evict(eviction) for eviction in due))
        later = next_at(state, since=since)
        again = NEXT_AFTER if any(refused) else AGAIN_AFTER
        spared = self._protected.at(steady)
        retry = now + again if due or any(pod.uid in spared for pod in state.pods) else None
        delays = [moment - now for moment in (later, retry) if moment is not None and moment > now]
        return min(delays, default=None)

    def forget(self, node: NodeName) -> None:
        """A node is gone."""
        self._since.pop(node, None)

    def forget_everything(self) -> None:
        """Nobody looked for a while: what was in trouble may have been well meanwhile."""
        self._since.clear()

    async def _evict(self, eviction: Eviction) -> bool:
        """Evicts the pod; whether it stays since it is protected."""
        pod = eviction.pod
        try:
            if await self._writer.evict(pod, dry_run=False):
                self._tell(eviction)
        except (EvictionRefused, Forbidden) as error:
            _log.warning("pod protected from eviction pod=%s reason=%s error=%s", pod.key, eviction.cause, error)
            self._protected.note(pod.uid, now=steady_time())
            return True
        except KubeError as error:
            _log.warning("pod not evicted pod=%s reason=%s error=%s", pod.key, eviction.cause, error)
        return False

    def _tell(self, eviction: Eviction) -> None:
        pod = eviction.pod
        EVICTIONS.labels(eviction.cause).inc()
        _log.info("pod evicted pod=%s reason=%s message=%s", pod.key, eviction.cause, eviction.message)
        for notice in evicted_notices(eviction, allocation=self._allocation_of(pod)):
            self._recorder.record(notice)
