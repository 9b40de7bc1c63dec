"""The pods of this node as the agent knows them: what its own watch shows, and what was fetched ahead of it.

State only; whoever watches feeds it. Imports the API's readings and the kube client.
"""

import asyncio
import logging
from collections.abc import Collection

from arbiter.ids import NodeName, PodUid
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.pods import GpuPod, gpu_pod
from arbiter_kube.api.resources import PODS
from arbiter_kube.client import KubeClient, KubeError

_log = logging.getLogger(__name__)

_FETCH_LIMIT = 1.0
"""The kubelet admits no other pod while it waits for us."""


class NodePods:
    """Pods by namespace and name, and those that ask for VRAM as Arbiter reads them; `unit` is bytes of a slice."""

    def __init__(self, client: KubeClient, *, node: NodeName, unit: int) -> None:
        self._client = client
        self._node = node
        self._unit = unit
        self._pods: dict[ObjectKey, Pod] = {}
        self._fetching: set[ObjectKey] = set()
        self.asking: dict[ObjectKey, GpuPod] = {}

    def apply(self, pod: Pod) -> GpuPod | None:
        """Takes in a new or changed pod."""
        self._fetching.discard(pod.key)
        self._pods[pod.key] = pod
        asking = gpu_pod(pod, unit=self._unit)
        if asking is not None:
            self.asking[pod.key] = asking
        else:
            self.asking.pop(pod.key, None)  # that of a former pod of this name
        return asking

    def remove(self, pod: Pod) -> None:
        """Takes out a deleted pod, unless another one has its name already."""
        self._fetching.discard(pod.key)
        known = self._pods.get(pod.key)
        if known is not None and known.uid == pod.uid:
            del self._pods[pod.key]
            self.asking.pop(pod.key, None)

    def keep(self, keys: Collection[ObjectKey]) -> None:
        """Takes out every pod that a complete list lacks."""
        self._fetching.clear()
        for key in [key for key in self._pods if key not in keys]:
            del self._pods[key]
            self.asking.pop(key, None)

    def knows(self, key: ObjectKey) -> bool:
        """Whether a pod of that name was seen."""
        return key in self._pods

    def by_uid(self) -> dict[PodUid, Pod]:
        """Every pod by its UID."""
        return {pod.uid: pod for pod in self._pods.values()}

    def asking_of(self, uid: PodUid) -> GpuPod | None:
        """The pod of that UID if it asks for VRAM; None where it is not known, or not any more."""
        return next((pod for pod in self.asking.values() if pod.uid == uid), None)

    async def fetch(self, key: ObjectKey) -> GpuPod | None:
        """The pod as the API server has it now; None where it cannot be had in time or is not on this node.

        What the watch shows meanwhile is as new, and a deletion newer: it stays.
        """
        self._fetching.add(key)
        try:
            pod = await self._client.get(PODS, key.name, namespace=key.namespace, within=_FETCH_LIMIT)
        except KubeError as error:
            _log.warning("pod unknown and not to be had pod=%s error=%s", key, error)
            return None
        if key not in self._fetching:
            return self.asking.get(key)
        return self.apply(pod) if pod.node == self._node else None

    async def fetch_all(self, keys: frozenset[ObjectKey]) -> frozenset[ObjectKey]:
        """Fetches several pods at once, within the time of one; those that ask for VRAM and could be had."""
        pods = await asyncio.gather(*(self.fetch(key) for key in keys))
        return frozenset(key for key, pod in zip(keys, pods, strict=True) if pod is not None)
