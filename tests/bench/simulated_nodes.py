"""Nodes without a kubelet: the agent's own transition engine and report, and containers that do as they are told.

Imports the core's engine, the agent's reading of it, and the API's models.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.policy import Policy
from arbiter.transitions import (
    Acknowledged,
    Action,
    Ended,
    Engine,
    Event,
    Exited,
    Gated,
    Measure,
    Measured,
    PodObserved,
    PodsListed,
    PodVanished,
    Publish,
    Refuse,
    Release,
    StartAbandoned,
    StartRequested,
    Target,
    Tick,
)
from arbiter.units import GIB
from arbiter_deviceplugin.backends import Gpu, Reading
from arbiter_deviceplugin.gpunode import NodeFacts, node_status
from arbiter_kube.api.gpunode import GpuNodeStatus
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.resources import GPU_NODES
from arbiter_kube.client import KubeClient

APPLY_SECONDS = 0.05
"""Until a container has done what it was told, has started, or has ended."""


@dataclass(frozen=True, slots=True)
class Overuse:
    """The containers of a GPU used more than it has."""

    gpu: GpuUuid
    uses: Mapping[PodUid, int]


class SimulatedNode:
    """One node; feed it with what its agent's watch would show. Its GPUs are all of `usable` bytes."""

    def __init__(self, client: KubeClient, name: NodeName, *, gpus: int, usable: int) -> None:
        self.name = name
        self.overuses: list[Overuse] = []
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._gpus = tuple(
            Gpu(uuid=GpuUuid(f"{name}-gpu-{index}"), index=index, name="SIM", total=usable, reserved=0)
            for index in range(gpus)
        )
        self._usable = {gpu.uuid: gpu.usable for gpu in self._gpus}
        self._engine = Engine(usable=self._usable, policy=Policy(), now=self._loop.time())
        self._pods: dict[PodUid, GpuPod] = {}
        self._starts: dict[PodUid, int] = {}
        self._uses: dict[PodUid, dict[GpuUuid, int]] = defaultdict(dict)
        self._reported: GpuNodeStatus | None = None
        self._changed = asyncio.Event()
        self._tick: asyncio.TimerHandle | None = None
        self._feed(PodsListed(frozenset()))

    # What the watch shows

    def applied(self, pod: GpuPod) -> None:
        """A pod of this node is new or changed."""
        is_new = pod.uid not in self._pods
        self._pods[pod.uid] = pod
        events: list[Event] = [_observed(pod)]
        if is_new:
            events.append(StartRequested(pod.uid))
        self._feed(*events)

    def deleted(self, uid: PodUid) -> None:
        """A pod is gone; its container is a little later."""
        if self._pods.pop(uid, None) is not None:
            self._feed(PodVanished(uid), StartAbandoned(uid, self._starts.get(uid, 0)))
            self._later(lambda: self._end(uid))

    # What the agent does

    async def report(self) -> None:
        """Writes its GpuNode whenever that changes, until it is cancelled."""
        while True:
            status = self._status()
            if status != self._reported:
                await self._client.patch(GPU_NODES, self.name, {"status": status}, subresource="status")
                self._reported = status
            await self._changed.wait()
            self._changed.clear()

    def _status(self) -> GpuNodeStatus:
        facts = NodeFacts(
            version="0",
            boot_id="0",
            vendor="simulated",
            unit=GIB,
            wanted_unit=GIB,
            reading=Reading(gpus=self._gpus),
            grants=self._engine.statuses(),
            pods=self._pods,
            listed=(),
            foreign=(),
            rungs={},
        )
        return node_status(facts, before=self._reported, now=datetime.now(UTC))

    def _feed(self, *events: Event) -> None:
        for action in self._engine.handle_all(events, self._loop.time()):
            self._carry_out(action)
        self._changed.set()
        if self._tick is not None:
            self._tick.cancel()
        due = self._engine.next_deadline()
        self._tick = None if due is None else self._loop.call_at(due, self._feed, Tick())

    def _carry_out(self, action: Action) -> None:
        match action:
            case Gated(uid, start) | Release(uid, start):
                self._starts[uid] = start
            case Refuse(uid):
                self._later(lambda: self._feed(StartRequested(uid)))
            case Publish(uid, grant):
                # More is used at once, less once it has been given back.
                self._use(uid, max(grant.vram, *self._uses[uid].values(), 0))
                self._later(lambda: self._acknowledge(uid, grant.revision, grant.vram))
            case Measure(uid):
                now = self._loop.time()
                self._later(lambda: self._feed(Measured(uid=uid, vram=None, at=now)), seconds=0.0)

    # What the containers do

    def _acknowledge(self, uid: PodUid, revision: int, vram: int) -> None:
        status = self._engine.status(uid)
        if uid in self._pods and status is not None and status.revision == revision:
            self._use(uid, vram)
            self._feed(Acknowledged(uid=uid, revision=revision, vram=vram))

    def _end(self, uid: PodUid) -> None:
        self._uses.pop(uid, None)
        self._feed(Exited(uid, self._starts.pop(uid, 0)), Ended(uid))

    def _use(self, uid: PodUid, size: int) -> None:
        """The container uses so many bytes of each of its GPUs from now on; looks at once whether that is too much."""
        gpus = self._pods[uid].gpus if uid in self._pods else ()
        self._uses[uid] = dict.fromkeys(gpus, size)
        for gpu in gpus:
            uses = {other: here[gpu] for other, here in self._uses.items() if gpu in here}
            if sum(uses.values()) > self._usable[gpu]:
                self.overuses.append(Overuse(gpu, uses))

    def _later(self, do: Callable[[], None], *, seconds: float = APPLY_SECONDS) -> None:
        self._loop.call_later(seconds, do)


def _observed(pod: GpuPod) -> PodObserved:
    target = Target(quality=Fraction(pod.grant.quality), vram=pod.grant.vram) if pod.grant else None
    return PodObserved(
        uid=pod.uid,
        name=pod.key,
        demand=pod.demand,
        gpus=pod.gpus,
        bound_at=pod.created_at,
        target=target,
        terminating=pod.terminating,
    )
