"""Keeps the ledger in step with the API server: list and watch of four kinds, each event into one of its methods.

Imports the ledger and the Kubernetes client.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from arbiter.ids import NodeName
from arbiter_extender.ledger import Ledger
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import Pod
from arbiter_kube.api.pods import gpu_pod
from arbiter_kube.api.resources import GPU_NODES, NODES, PODS, QUALITY_POLICIES
from arbiter_kube.client import Applied, Deleted, KubeClient, Reflector

T = TypeVar("T")


class Feed:
    """Four reflectors and the ledger that they feed."""

    def __init__(self, client: KubeClient, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pods = Reflector(client, PODS)
        self._nodes = Reflector(client, NODES)
        self._gpu_nodes = Reflector(client, GPU_NODES)
        self._policies = Reflector(client, QUALITY_POLICIES)

    def obstacle(self) -> str | None:
        """What the ledger has not seen a complete list of yet, in one sentence; None once it has seen everything."""
        synced = {
            "pods": self._pods.synced,
            "nodes": self._nodes.synced,
            "GpuNodes": self._gpu_nodes.synced,
            "QualityPolicies": self._policies.synced,
        }
        missing = [kind for kind, event in synced.items() if not event.is_set()]
        return f"The lists of {', '.join(missing)} are not complete yet." if missing else None

    async def run(self) -> None:
        """Feeds the ledger until it is cancelled."""
        ledger = self._ledger
        async with asyncio.TaskGroup() as group:
            group.create_task(
                _follow(self._pods, applied=self._pod_applied, deleted=lambda pod: ledger.pod_deleted(pod.uid))
            )
            group.create_task(
                _follow(self._nodes, applied=ledger.node_applied, deleted=lambda node: ledger.node_deleted(node.name))
            )
            group.create_task(_follow(self._gpu_nodes, applied=ledger.gpu_node_applied, deleted=self._gpu_node_deleted))
            group.create_task(
                _follow(
                    self._policies,
                    applied=ledger.policy_applied,
                    deleted=lambda policy: ledger.policy_deleted(policy.metadata.name),
                )
            )

    def _pod_applied(self, pod: Pod) -> None:
        asks_for_vram = gpu_pod(pod, unit=self._ledger.unit)
        if asks_for_vram is not None:
            self._ledger.pod_applied(asks_for_vram)

    def _gpu_node_deleted(self, report: GpuNode) -> None:
        self._ledger.gpu_node_deleted(NodeName(report.metadata.name))


async def _follow(reflector: Reflector[T], *, applied: Callable[[T], None], deleted: Callable[[T], None]) -> None:
    async for event in reflector:
        match event:
            case Applied(object=thing):
                applied(thing)
            case Deleted(object=thing):
                deleted(thing)
