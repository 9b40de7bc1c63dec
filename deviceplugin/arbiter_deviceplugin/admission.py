"""What the kubelet's questions mean: which pod it speaks of, which slices it should get, which directory it has.

Thin I/O around `matching`, `slices` and `allocations`.
"""

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from arbiter.ids import GpuUuid, NodeName
from arbiter_deviceplugin.allocations import Allocation, Allocations
from arbiter_deviceplugin.clock import Clock
from arbiter_deviceplugin.directory import NAME_LENGTH, make_directory
from arbiter_deviceplugin.disk import Disk
from arbiter_deviceplugin.kubelet import Kubelet, KubeletError
from arbiter_deviceplugin.matching import ListedContainer, being_admitted, holder_of, without_slices
from arbiter_deviceplugin.pods import NodePods
from arbiter_deviceplugin.slices import SliceId, gpus_of, preferred
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.pods import GpuPod

_log = logging.getLogger(__name__)

_ADMISSION_SECONDS = 2.0
"""Between the question for a preference and Allocate; a few milliseconds when nothing is wrong."""


class StartRefusedError(Exception):
    """A start that cannot be let go now; the text is what people read as the reason of the waiting container."""


@dataclass(frozen=True, slots=True)
class HandedOut:
    """What a container is given: GPUs and a directory."""

    gpus: tuple[GpuUuid, ...]
    path: Path


@dataclass(frozen=True, slots=True)
class _Preference:
    """The last answer to the kubelet, and the GPUs that the pod in question was assigned."""

    slices: frozenset[SliceId]
    assigned: tuple[GpuUuid, ...]


@dataclass(frozen=True, slots=True)
class Identified:
    """The container that the kubelet is about to start."""

    pod: GpuPod
    allocation: Allocation


class Admission:
    """Answers by what the kubelet lists, the own watch shows and the own ledger remembers."""

    def __init__(
        self,
        *,
        node: NodeName,
        kubelet: Kubelet,
        pods: NodePods,
        allocations: Allocations,
        disk: Disk,
        clock: Clock,
        run_dir: Path,
    ) -> None:
        self._node = node
        self._kubelet = kubelet
        self._pods = pods
        self._allocations = allocations
        self._disk = disk
        self._clock = clock
        self._run_dir = run_dir
        self._listing = asyncio.Lock()
        self.listed: tuple[ListedContainer, ...] = ()
        self._admitting_until = 0.0
        self._preference = _Preference(frozenset(), ())

    @property
    def is_admitting(self) -> bool:
        """Whether slices are on their way to a container: asking the kubelet for its list now would confuse it."""
        return time.monotonic() < self._admitting_until

    async def prefer(
        self, available: tuple[SliceId, ...], *, required: tuple[SliceId, ...], size: int
    ) -> tuple[SliceId, ...]:
        """Exactly `size` slices, of the GPUs that the pod being admitted was assigned where that is known."""
        self._admitting_until = time.monotonic() + _ADMISSION_SECONDS
        gpus = await self._assigned_gpus(size)
        chosen = preferred(available, required=required, size=size, gpus=gpus, taken=self._allocations.taken())
        self._preference = _Preference(frozenset(chosen), gpus)
        _log.info("slices preferred size=%d gpus=%s", size, ",".join(gpus) or "unknown")
        return chosen

    async def allocate(self, slices: tuple[SliceId, ...]) -> HandedOut:
        """A fresh directory for these slices. No question to anybody: the kubelet waits with everything else."""
        gpus = self._used_gpus(slices)
        name = secrets.token_hex(NAME_LENGTH // 2)
        allocation = Allocation(directory=name, slices=slices, gpus=gpus, at=self._clock.now())
        path = self._run_dir / allocation.directory
        # The directory last: one of which the disk does not know would never be removed.
        await asyncio.to_thread(self._disk.save_allocation, allocation)
        self._allocations.add(allocation)
        await asyncio.to_thread(make_directory, path)
        self._admitting_until = 0.0
        return HandedOut(gpus, path)

    async def identify(self, slices: tuple[SliceId, ...]) -> Identified:
        """The pod that holds exactly these slices, by the kubelet's own list.

        Raises:
            StartRefusedError: it cannot be told now.
        """
        wanted = frozenset(slices)
        allocation = self._allocations.of_slices(wanted)
        if allocation is None:
            raise StartRefusedError(
                "start held: this node's agent has lost the directory of this container; delete the pod to start anew"
            )
        try:
            holder = holder_of(await self.list_containers(), wanted)
        except KubeletError as error:
            raise StartRefusedError(f"start held: {error}") from error
        if holder is None:
            raise StartRefusedError("start held: the kubelet does not list the pod that has these slices")
        pod = await self._pod_of(holder, allocation)
        if pod.frozen.container != holder.name:
            raise StartRefusedError(
                f"start held: only one container of a pod may hold VRAM, and in {pod.key} that is "
                f"{pod.frozen.container}, not {holder.name}"
            )
        return Identified(pod, await self._claim(allocation, pod))

    async def list_containers(self) -> tuple[ListedContainer, ...]:
        """What the kubelet lists now; it stays in `listed`.

        Raises:
            KubeletError: it does not answer in time.
        """
        async with self._listing:
            self.listed = await self._kubelet.containers()
        return self.listed

    async def _assigned_gpus(self, size: int) -> tuple[GpuUuid, ...]:
        try:
            listed = await self.list_containers()
        except KubeletError as error:
            _log.warning("slices preferred without knowing the pod error=%s", error)
            return ()
        unseen = frozenset(key for key in without_slices(listed) if not self._pods.knows(key) or self._is_old(key))
        # One that the API server still has by its name asks again though it has slices: its kubelet has lost its books.
        fetched = await self._pods.fetch_all(unseen)
        asking = {key: pod for key, pod in self._pods.asking.items() if key in fetched or not self._is_old(key)}
        pod = being_admitted(listed, asking, size=size, node=self._node)
        return pod.gpus if pod else ()

    def _used_gpus(self, slices: tuple[SliceId, ...]) -> tuple[GpuUuid, ...]:
        """The GPUs that the pod was assigned; those of its slices where nobody knows that.

        A kubelet that still counts a former pod's slices has too few of the right GPU and adds others. Room was found
        on the assigned GPU alone, so the others are taken and never used.
        """
        assigned = self._preference.assigned if self._preference.slices == frozenset(slices) else ()
        given = gpus_of(slices)
        if assigned and {*assigned} != {*given}:
            _log.warning("slices of other gpus assigned=%s given=%s", ",".join(assigned), ",".join(given))
        return tuple(sorted(assigned)) or given

    def _is_old(self, key: ObjectKey) -> bool:
        """Whether the pod that is known by this name has its slices already: only another of that name can ask."""
        pod = self._pods.asking.get(key)
        return pod is not None and self._allocations.of_pod(pod.uid) is not None

    async def _pod_of(self, holder: ListedContainer, allocation: Allocation) -> GpuPod:
        pod = self._pods.asking.get(holder.pod)
        if pod is None or not self._fits(pod, allocation):
            pod = await self._pods.fetch(holder.pod)
        if pod is None or allocation.uid not in (None, pod.uid):
            raise StartRefusedError(f"start held: pod {holder.pod} has not been seen by this node's agent yet")
        return pod

    def _fits(self, pod: GpuPod, allocation: Allocation) -> bool:
        """Whether it cannot be the pod that had this name before, which the watch may still show."""
        if allocation.uid is not None:
            return allocation.uid == pod.uid
        return self._allocations.of_pod(pod.uid) is None

    async def _claim(self, allocation: Allocation, pod: GpuPod) -> Allocation:
        if allocation.uid == pod.uid:
            return allocation
        claimed = self._allocations.claim(allocation, pod.uid)
        await asyncio.to_thread(self._disk.save_allocation, claimed)
        return claimed
