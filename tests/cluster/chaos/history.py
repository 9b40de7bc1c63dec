"""What the API server and the containers showed, and when: read by the chaos tests for themselves.

Imports the standard library, the containers' journals and the reference solver; nothing of Arbiter.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hack.journal import Step
from tests.cluster.chaos.reference import GIB, MIB, Demand, Rules

_A = "arbiter.infernum.io/"
_LEAST_QUALITY = {"LlmInference": 0.4, "ImageGeneration": 0.3, "VideoGeneration": 0.25}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeen:
    """One version of a pod that asks for GPU memory; `target` and `vram` as its annotations say, bytes per GPU.

    `heard_at` is when a kubelet first looked at it, in whole seconds.
    """

    time: float
    uid: str
    name: str
    phase: str = "Pending"
    reason: str = ""
    node: str | None = None
    gpus: tuple[str, ...] = ()
    demand: Demand | None = None
    allocation: str | None = None
    target: float | None = None
    vram: int | None = None
    revision: int = 0
    terminating: bool = False
    heard_at: float | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSeen:
    """What a node says of one container: bytes per GPU."""

    uid: str
    gpus: tuple[str, ...]
    state: str
    granted: int | None = None
    held: int = 0
    measured: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSeen:
    """One version of a GpuNode; `usable` bytes by GPU."""

    time: float
    name: str
    usable: Mapping[str, int]
    grants: tuple[GrantSeen, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySeen:
    """One version of a QualityPolicy; `node` is the one that it selects, None for all."""

    name: str
    rules: Rules = field(default_factory=Rules)
    weight: int = 0
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Everything as it stood at one moment: pods by uid, the others by name; what each container was last told."""

    pods: Mapping[str, PodSeen]
    nodes: Mapping[str, NodeSeen]
    policies: Mapping[str, PolicySeen]
    wanted: Mapping[str, Demand]
    told: Mapping[str, Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All versions in the order of time, and the journal of every container by its pod's uid."""

    pods: tuple[PodSeen, ...] = ()
    nodes: tuple[NodeSeen, ...] = ()
    journals: Mapping[str, list[Step]] = field(default_factory=dict)


def pod_seen(item: dict[str, Any], time: float) -> PodSeen | None:
    """A pod of the API server's; None for one without anything of Arbiter."""
    metadata, status = item["metadata"], item.get("status", {})
    annotations = metadata.get("annotations", {})
    if _A + "demand" not in annotations:
        return None
    frozen = json.loads(annotations[_A + "demand"])
    target, vram = annotations.get(_A + "quality-target"), annotations.get(_A + "vram-target")
    return PodSeen(
        time=time,
        uid=metadata["uid"],
        name=metadata["name"],
        phase=status.get("phase", "Pending"),
        reason=status.get("reason", ""),
        node=item["spec"].get("nodeName"),
        gpus=tuple(filter(None, annotations.get(_A + "gpus", "").split(","))),
        demand=_frozen(frozen),
        allocation=frozen.get("allocation"),
        target=None if target is None else float(target),
        vram=None if vram is None else _bytes(vram),
        revision=int(annotations.get(_A + "revision", 0)),
        terminating="deletionTimestamp" in metadata,
        heard_at=datetime.fromisoformat(status["startTime"]).timestamp() if "startTime" in status else None,
        restarts=sum(container["restartCount"] for container in status.get("containerStatuses", [])),
    )


def node_seen(item: dict[str, Any], time: float) -> NodeSeen:
    """A GpuNode of the API server's."""
    status = item.get("status", {})
    return NodeSeen(
        time=time,
        name=item["metadata"]["name"],
        usable={gpu["uuid"]: gpu["usable"] for gpu in status.get("gpus", [])},
        grants=tuple(
            GrantSeen(
                uid=grant["podUID"],
                gpus=tuple(grant.get("gpus", [])),
                state=grant["state"],
                granted=grant.get("granted"),
                held=grant.get("held", 0),
                measured=grant.get("measured") or 0,
            )
            for grant in status.get("grants", [])
        ),
    )


def policy_seen(item: dict[str, Any]) -> PolicySeen:
    """A QualityPolicy of the API server's, whose selector names a node or nothing."""
    spec = item.get("spec", {})
    rules = Rules(
        mode=spec.get("mode", "Adaptive"),
        threshold=spec.get("pressureThreshold", 1.0),
        adaptive=spec.get("adaptive", True),
    )
    node = (spec.get("nodeSelector") or {}).get("kubernetes.io/hostname")
    return PolicySeen(name=item["metadata"]["name"], rules=rules, weight=spec.get("weight", 0), node=node)


def wanted_by(item: dict[str, Any]) -> Demand:
    """What a GpuAllocation of the API server's, with its full size and floor, asks for."""
    spec = item["spec"]
    full, floor = _bytes(spec["vram"]["full"]), _bytes(spec["vram"]["floor"])
    quality = spec.get("quality", {})
    maximum = quality.get("maximum", 1.0)
    least = maximum if full == floor else max(_LEAST_QUALITY[spec["workloadType"]], maximum * floor / full)
    return Demand(
        workload_type=spec["workloadType"],
        priority=spec.get("priority", "Normal"),
        full=full,
        floor=floor,
        maximum=maximum,
        minimum=quality.get("minimum", least),
        levels=tuple((level["quality"], _bytes(level["vram"])) for level in spec["vram"].get("levels", [])),
    )


def _frozen(frozen: dict[str, Any]) -> Demand:
    return Demand(
        workload_type=frozen["workloadType"],
        priority=frozen["priority"],
        full=frozen["full"],
        floor=frozen["floor"],
        maximum=float(frozen["maximum"]),
        minimum=float(frozen["minimum"]),
        levels=tuple((float(level["quality"]), level["vram"]) for level in frozen.get("levels", [])),
    )


def _bytes(text: str) -> int:
    for unit, size in (("Gi", GIB), ("Mi", MIB)):
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * size
    return int(text)
