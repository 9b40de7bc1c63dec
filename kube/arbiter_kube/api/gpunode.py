"""GpuNode: what one node's agent says about its GPUs and about every container that may hold their memory."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from arbiter_kube.api.fields import ApiModel, Conditions, ObjectMeta


class GrantState(StrEnum):
    """Where a container stands with its memory."""

    GATED = "Gated"
    STARTING = "Starting"
    MOVABLE = "Movable"
    HELD = "Held"
    OVERDUE = "Overdue"
    LATE = "Late"
    DOWN = "Down"


class GpuStatus(ApiModel):
    """One GPU; sizes in bytes."""

    uuid: str
    """Its UUID, which stays."""
    index: int
    """Its index as in nvidia-smi, which may change."""
    name: str = ""
    """Its model."""
    vendor: str = ""
    """Who made it."""
    total: int
    """Memory of the device."""
    reserved: int
    """What the driver, or the VRAM budget, keeps back."""
    usable: int
    """What is shared out."""
    used: int | None = None
    """What the driver says is in use."""
    healthy: bool = True
    """Whether new containers may start on it."""
    reason: str | None = None
    """Why it is not healthy."""
    enforcement: str = "none"
    """How firmly grants are held: dmem, misc, monitor or none."""
    isolation: str = "none"
    """What keeps its containers from other GPUs: cdi, volume-mounts or none."""
    confirmation: str = "trust"
    """When a shrink counts: once it is measured too, or on trust."""
    links: Annotated[list[str], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})] = Field(
        default_factory=list
    )
    """UUIDs of GPUs that NVLink reaches."""


class GrantOnNode(ApiModel):
    """One container with memory on this node; sizes in bytes per GPU."""

    pod_uid: Annotated[str, Field(alias="podUID")]
    """The pod's UID."""
    namespace: str
    """The pod's namespace."""
    pod: str
    """The pod's name."""
    container: str
    """The container that has the memory."""
    gpus: Annotated[list[str], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})] = Field(
        default_factory=list
    )
    """UUIDs of the GPUs that it uses."""
    granted: int | None = None
    """What it may use now."""
    quality: float | None = None
    """The quality that goes with it."""
    held: Annotated[int, Field(ge=0)] = 0
    """What it may still hold."""
    applied: int | None = None
    """What it last confirmed."""
    measured: int | None = None
    """What is seen in use."""
    movable: bool = False
    """Whether it follows targets."""
    revision: int | None = None
    """Number of the target that it was told."""
    state: GrantState
    """Where it stands."""
    waiting: bool = False
    """Its start waits for its floor."""


class SliceCount(ApiModel):
    """The kubelet's truth: how many slices of which GPU a container holds."""

    namespace: str
    """The pod's namespace."""
    pod: str
    """The pod's name."""
    container: str
    """The container's name."""
    gpu: str
    """UUID of the GPU."""
    slices: int
    """Units that it holds of it."""


class GpuNodeSummary(ApiModel):
    """What `kubectl get` prints."""

    gpus: int = 0
    """GPUs that are Arbiter's."""
    healthy: str = "0/0"
    """How many of them are healthy."""
    usable: str = "0"
    """Memory that is shared out."""
    floors: str = "0"
    """What is reserved of it."""
    granted: str = "0"
    """What containers may use of it."""
    used: str = "0"
    """What the driver says is in use."""
    enforcement: str = "none"
    """The lowest of its GPUs."""


class GpuNodeStatus(ApiModel):
    """Written by this node's agent alone."""

    agent_version: str = ""
    """The agent's version."""
    boot_id: Annotated[str, Field(alias="bootID")] = ""
    """Of the node's boot that it is about."""
    unit: int = 0
    """Bytes of one unit of arbiter.infernum.io/vram here."""
    gpus: Annotated[
        list[GpuStatus],
        Field(
            max_length=64, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uuid"]}
        ),
    ] = Field(default_factory=list)
    """The node's GPUs."""
    grants: Annotated[
        list[GrantOnNode],
        Field(
            max_length=1024,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["podUID"]},
        ),
    ] = Field(default_factory=list)
    """Containers with memory here."""
    slices: Annotated[
        list[SliceCount], Field(max_length=2048, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = Field(default_factory=list)
    """What the kubelet counts."""
    summary: GpuNodeSummary = Field(default_factory=GpuNodeSummary)
    """What kubectl get prints."""
    conditions: Conditions = Field(default_factory=list)
    """Ready, Conflict, UnitMismatch, Overcommitted, MeasuredAboveGrant."""


class GpuNode(ApiModel):
    """The custom resource; its name is the node's."""

    metadata: ObjectMeta
    """The object's metadata; its name is the node's."""
    status: GpuNodeStatus = Field(default_factory=GpuNodeStatus)
    """What the node's agent says."""
