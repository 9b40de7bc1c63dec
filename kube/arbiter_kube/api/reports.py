"""What decisions about room read of a GpuNode: a few of its fields, small and quick to decode.

A process that follows thousands of nodes reads their objects as these structs: a quarter of the time and a fifth of
the memory of the custom resource's own models. Imports msgspec and the models.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from arbiter.ids import GpuUuid, NodeName, NodeUid, PodUid
from arbiter_kube.api.gpunode import GpuNodeStatus, GrantState
from arbiter_kube.api.objects import OwnerReference


class _Part(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Immutable trees, which the garbage collector need not track; fields as in `arbiter_kube.api.gpunode`."""


class GpuReport(_Part, frozen=True, kw_only=True):
    """One GPU; `usable` in bytes."""

    uuid: GpuUuid
    usable: int
    healthy: bool = True
    links: tuple[GpuUuid, ...] = ()


class GrantReport(_Part, frozen=True, kw_only=True):
    """One container with memory on the node; sizes in bytes per GPU."""

    pod_uid: PodUid = msgspec.field(name="podUID")
    namespace: str
    pod: str
    container: str
    gpus: tuple[GpuUuid, ...] = ()
    granted: int | None = None
    held: int = 0
    measured: int | None = None
    movable: bool = False
    state: GrantState


class SliceReport(_Part, frozen=True, kw_only=True):
    """How many slices of a GPU the kubelet gave to a container."""

    namespace: str
    pod: str
    container: str
    gpu: GpuUuid
    slices: int


class NodeReport(_Part, frozen=True, kw_only=True):
    """What a node's agent says; `unit` is the bytes of a slice there, 0 before it says anything."""

    unit: int = 0
    gpus: tuple[GpuReport, ...] = ()
    grants: tuple[GrantReport, ...] = ()
    slices: tuple[SliceReport, ...] = ()


class _Owned(_Part, frozen=True, kw_only=True):
    name: NodeName
    owner_references: tuple[OwnerReference, ...] = ()


ANY_NODE = NodeUid("")
"""Whichever has the name."""


class Owner(Protocol):
    """What names the owner of an object: an owner reference as a Struct or a pydantic model."""

    @property
    def kind(self) -> str: ...  # noqa: D102 - the API's field
    @property
    def uid(self) -> str: ...  # noqa: D102 - the API's field


def node_of(owners: Iterable[Owner]) -> NodeUid:
    """Which node of its name a GpuNode with these owners is about; ANY_NODE where it does not say."""
    return next((NodeUid(owner.uid) for owner in owners if owner.kind == "Node"), ANY_NODE)


def counts_for(node: NodeUid, *, told_of: NodeUid) -> bool:
    """Whether what was told of one node is about another: one made anew under a name may have other GPUs.

    The GpuNode of a former node is there until the garbage collector comes to it.
    """
    return node == told_of or ANY_NODE in (node, told_of)


class ReportedNode(_Part, frozen=True, kw_only=True):
    """A GpuNode, of which only this is read."""

    metadata: _Owned
    status: NodeReport = NodeReport()

    @property
    def name(self) -> NodeName:
        """The node's name."""
        return self.metadata.name

    @property
    def node(self) -> NodeUid:
        """Which node of that name it is about; empty where it does not say."""
        return node_of(self.metadata.owner_references)


def node_report(status: GpuNodeStatus) -> NodeReport:
    """The same of a whole status."""
    return msgspec.convert(status, NodeReport, from_attributes=True)
