"""Keeps the ledger in step with the API server: list and watch of four kinds, each event into one of its methods.

Imports the ledger and the Kubernetes client.
"""

import asyncio
import gc
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

from arbiter.ids import NodeName, NodeUid
from arbiter_extender.ledger import Ledger, claimant
from arbiter_kube.api.objects import PartialObject
from arbiter_kube.api.resources import NODE_METADATA, NODE_REPORTS, PODS, QUALITY_POLICIES
from arbiter_kube.client import KubeClient, Reflector
from arbiter_kube.client.turns import Turns

T = TypeVar("T")


class Feed:
    """Four reflectors and the ledger that they feed."""

    def __init__(self, client: KubeClient, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pods = Reflector(client, PODS, keep=partial(claimant, unit=ledger.unit))
        self._nodes = Reflector(client, NODE_METADATA, keep=_labelled)
        self._reports = Reflector(client, NODE_REPORTS)
        self._policies = Reflector(client, QUALITY_POLICIES)
        self._is_open = False

    def obstacle(self) -> str | None:
        """What keeps the ledger from being asked, in one sentence; None once it has seen everything."""
        synced = {
            "pods": self._pods.synced,
            "nodes": self._nodes.synced,
            "GpuNodes": self._reports.synced,
            "QualityPolicies": self._policies.synced,
        }
        missing = [kind for kind, event in synced.items() if not event.is_set()]
        if missing:
            return f"The lists of {', '.join(missing)} are not complete yet."
        return None if self._is_open else "The room on the nodes is being worked out."

    async def run(self) -> None:
        """Feeds the ledger until it is cancelled."""
        ledger = self._ledger
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._follow(self._pods, applied=ledger.pod_applied, deleted=lambda pod: ledger.pod_deleted(pod.uid))
            )
            group.create_task(
                self._follow(
                    self._nodes,
                    applied=lambda node: ledger.node_applied(node.name, node.labels, uid=node.uid),
                    deleted=lambda node: ledger.node_deleted(node.name),
                )
            )
            group.create_task(
                self._follow(
                    self._reports,
                    applied=lambda node: ledger.report_applied(node.name, node.status, of=node.node),
                    deleted=lambda node: ledger.report_deleted(node.name),
                )
            )
            group.create_task(
                self._follow(
                    self._policies,
                    applied=ledger.policy_applied,
                    deleted=lambda policy: ledger.policy_deleted(policy.metadata.name),
                )
            )
            group.create_task(self._open())

    async def _open(self) -> None:
        """Lets the ledger be asked once everything was listed."""
        for reflector in (self._pods, self._nodes, self._reports, self._policies):
            await reflector.synced.wait()
        await self._settle()
        # Most of what is here now stays for good: no collection need look at it again.
        gc.collect()
        gc.freeze()
        self._is_open = True

    async def _follow(
        self, reflector: Reflector[T], *, applied: Callable[[T], None], deleted: Callable[[T], None]
    ) -> None:
        async for _ in reflector.applying(applied=applied, deleted=deleted):
            if self._is_open:
                await self._settle()

    async def _settle(self) -> None:
        """Does the index's work now, so that no question has to wait for it."""
        turns = Turns()
        while not self._ledger.settle(at_most=1):
            await turns.give_way()


class _Labelled(NamedTuple):
    """A node, of which only the labels matter, since they choose its policy, and whether it is still the same one."""

    name: NodeName
    uid: NodeUid
    labels: Mapping[str, str]


def _labelled(node: PartialObject) -> _Labelled:
    return _Labelled(NodeName(node.metadata.name), NodeUid(node.metadata.uid), node.metadata.labels)
