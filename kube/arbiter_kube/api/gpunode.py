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
    index: int
    name: str = ""
    vendor: str = ""
    total: int
    reserved: int
    usable: int
    used: int | None = None
    healthy: bool = True
    reason: str | None = None
    enforcement: str = "none"
    isolation: str = "none"
    confirmation: str = "trust"
    links: Annotated[list[str], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})] = Field(
        default_factory=list
    )


class GrantOnNode(ApiModel):
    """One container with memory on this node; sizes in bytes per GPU."""

    pod_uid: Annotated[str, Field(alias="podUID")]
    namespace: str
    pod: str
    container: str
    gpus: Annotated[list[str], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})] = Field(
        default_factory=list
    )
    granted: int | None = None
    quality: float | None = None
    held: int = 0
    applied: int | None = None
    measured: int | None = None
    movable: bool = False
    revision: int | None = None
    state: GrantState
    waiting: bool = False


class SliceCount(ApiModel):
    """The kubelet's truth: how many slices of which GPU a container holds."""

    namespace: str
    pod: str
    container: str
    gpu: str
    slices: int


class GpuNodeSummary(ApiModel):
    """What `kubectl get` prints."""

    gpus: int = 0
    healthy: str = "0/0"
    usable: str = "0"
    floors: str = "0"
    granted: str = "0"
    used: str = "0"
    enforcement: str = "none"


class GpuNodeStatus(ApiModel):
    """Written by this node's agent alone."""

    agent_version: str = ""
    boot_id: Annotated[str, Field(alias="bootID")] = ""
    unit: int = 0
    gpus: Annotated[
        list[GpuStatus],
        Field(
            max_length=64, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uuid"]}
        ),
    ] = Field(default_factory=list)
    grants: Annotated[
        list[GrantOnNode],
        Field(
            max_length=1024,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["podUID"]},
        ),
    ] = Field(default_factory=list)
    slices: Annotated[
        list[SliceCount], Field(max_length=2048, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = Field(default_factory=list)
    summary: GpuNodeSummary = Field(default_factory=GpuNodeSummary)
    conditions: Conditions = Field(default_factory=list)


class GpuNode(ApiModel):
    """The custom resource; its name is the node's."""

    metadata: ObjectMeta
    status: GpuNodeStatus = Field(default_factory=GpuNodeStatus)
