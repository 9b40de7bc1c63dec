"""A cluster as its objects describe it, for the commands that look at one: only what a test is about is spelled out."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from arbiter.demand import DemandRequest, resolve
from arbiter.units import GIB, MIB, parse_bytes, slices_for
from arbiter.workload import MemoryPressure, Priority, Resize, WorkloadType
from arbiter_cli.kinds import TimedPod
from arbiter_cli.snapshot import Snapshot, snapshot_of
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api import annotations as a
from arbiter_kube.api.annotations import FrozenDemand, TargetGrant
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import Event, Node
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_kube.client import codec

NOW = datetime(2026, 3, 1, 10, 42, 7, tzinfo=UTC)


def before(seconds: float) -> str:
    """A time so many seconds ago, as the API server writes it."""
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Site:
    """Nodes, pods, allocations and policies; `snapshot()` is what the commands read of them."""

    def __init__(self) -> None:
        self._pods: list[TimedPod] = []
        self._nodes: list[Node] = []
        self._gpus: dict[str, list[dict[str, Any]]] = {}
        self._grants: dict[str, list[dict[str, Any]]] = {}
        self._slices: dict[str, list[dict[str, Any]]] = {}
        self._conditions: dict[str, list[dict[str, Any]]] = {}
        self._allocations: list[GpuAllocation] = []
        self._policies: list[QualityPolicy] = []
        self._former: set[str] = set()

    def node(self, name: str = "gpu-1", *usable: str, ready: bool = True, **status: Any) -> "Site":
        """A node with one GPU of each of these sizes (12Gi); `status` has fields of the first GPU."""
        sizes = [parse_bytes(size) for size in usable or ("12Gi",)]
        self._gpus[name] = [
            {"uuid": f"{name}-{index}", "index": index, "name": "SIM-12G", "total": size, "reserved": 0, "usable": size}
            | {"used": 0, "enforcement": "monitor"}
            for index, size in enumerate(sizes)
        ]
        self._gpus[name][0] |= status
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        offered = {VRAM_RESOURCE: str(sum(sizes) // GIB), "cpu": "8", "memory": "64Gi"}
        self._nodes.append(
            _read(Node, {"metadata": {"name": name}, "status": {"allocatable": offered, "conditions": [condition]}})
        )
        return self

    def pod(
        self,
        key: str,
        *,
        kind: str = "LlmInference",
        priority: str = "High",
        full: str = "10Gi",
        floor: str = "4Gi",
        allocation: str | None = None,
        target: tuple[str, int] | None = None,
        granted: int | None = None,
        quality: str | None = None,
        held: int | None = None,
        measured: int | None = None,
        state: str = "Movable",
        gpus: tuple[str, ...] = ("gpu-1-0",),
        reason: str = "placed on gpu-1/0",
        revision: int = 1,
        decided: float = 120.0,
        age: float = 360.0,
        resize: str = "InPlace",
        owner: str | None = None,
        unschedulable: str | None = None,
        **status: Any,
    ) -> "Site":
        """A pod, chat's unless said otherwise; without a target it waits. Sizes in MiB where they are numbers.

        `quality` is what it may use now where that is not its target.
        """
        namespace, _, name = key.partition("/")
        request = DemandRequest(
            workload_type=WorkloadType(kind),
            priority=Priority(priority),
            full=parse_bytes(full),
            floor=parse_bytes(floor),
            gpu_count=len(gpus),
            resize=Resize(resize),
        )
        demand = resolve(request)
        notes = {a.DEMAND: a.encode_demand(FrozenDemand(demand=demand, container="engine", allocation=allocation))}
        node = gpus[0].rpartition("-")[0] if target else None
        if target:
            notes[a.GPUS] = ",".join(gpus)
            notes |= a.target_annotations(_grant(target, revision, reason))
            size = granted if granted is not None else target[1]
            self._grants.setdefault(str(node), []).append(
                {"podUID": f"uid-{name}", "namespace": namespace, "pod": name, "container": "engine"}
                | {"gpus": list(gpus), "granted": None if state == "Gated" else size * MIB}
                | {
                    "held": (size if held is None else held) * MIB,
                    "quality": None if state == "Gated" else float(quality or target[0]),
                }
                | {"applied": size * MIB, "measured": None if measured is None else measured * MIB}
                | {"movable": state == "Movable", "state": state, "revision": revision, "waiting": state == "Gated"}
            )
            self._slices.setdefault(str(node), []).extend(
                {"namespace": namespace, "pod": name, "container": "engine", "gpu": gpu}
                | {"slices": slices_for(demand.floor, unit=GIB)}
                for gpu in gpus
            )
        conditions = [{"type": "PodScheduled", "status": "False", "message": unschedulable}] if unschedulable else []
        units = str(slices_for(demand.floor, unit=GIB) * demand.gpu_count)
        container = {"name": "engine", "resources": {"limits": {VRAM_RESOURCE: units}}}
        meta = {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "annotations": notes,
            "creationTimestamp": before(age),
            "ownerReferences": [{"uid": owner, "controller": True}] if owner else [],
            "managedFields": [{"manager": "arbiter-operator", "time": before(decided)}] if target else [],
        }
        spec = {"schedulerName": "arbiter-scheduler", "nodeName": node, "containers": [container]}
        phase = "Running" if target and state != "Gated" else "Pending"
        self._pods.append(
            _read(
                TimedPod,
                {"metadata": meta, "spec": spec, "status": {"phase": phase, "conditions": conditions} | status},
            )
        )
        return self

    def allocation(self, key: str, *, status: dict[str, Any] | None = None, **spec: Any) -> "Site":
        """A GpuAllocation, chat's unless said otherwise."""
        namespace, _, name = key.partition("/")
        chat = {"workloadType": "LlmInference", "priority": "High", "vram": {"full": "10Gi", "floor": "4Gi"}}
        self._allocations.append(
            GpuAllocation.model_validate(
                {"metadata": {"name": name, "namespace": namespace}, "spec": chat | spec, "status": status or {}}
            )
        )
        return self

    def policy(self, name: str = "default", **spec: Any) -> "Site":
        """A QualityPolicy."""
        self._policies.append(QualityPolicy.model_validate({"metadata": {"name": name}, "spec": spec}))
        return self

    def condition(self, node: str, kind: str, status: str, message: str = "", *, reason: str = "Said") -> "Site":
        """What a node's agent says of it as a whole."""
        self._conditions.setdefault(node, []).append(
            {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": before(60)}
        )
        return self

    def made_anew(self, node: str) -> "Site":
        """A node of the same name has taken its place; what its agent said is still there."""
        self._nodes = [_made_anew(one) if one.name == node else one for one in self._nodes]
        self._former.add(node)
        return self

    def resource(self, node: str, name: str, count: str) -> "Site":
        """What somebody offers on a node."""
        (known,) = [one for one in self._nodes if one.name == node]
        known.status.allocatable[name] = count
        return self

    def using(self, key: str, node: str, resource: str) -> "Site":
        """A pod that uses what somebody else offers."""
        namespace, _, name = key.partition("/")
        container = {"name": "main", "resources": {"limits": {resource: "1"}}}
        body = {
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
            "spec": {"nodeName": node, "containers": [container]},
        }
        self._pods.append(_read(TimedPod, body))
        return self

    def drift(self, node: str, pod: str, gpu: str) -> "Site":
        """The kubelet gave the pod another GPU."""
        for grant in self._grants[node]:
            if grant["pod"] == pod:
                grant["gpus"] = [gpu]
        return self

    def snapshot(self) -> Snapshot:
        """Everything at this moment."""
        reports = [
            GpuNode.model_validate(
                {
                    "metadata": {
                        "name": name,
                        "ownerReferences": [{"kind": "Node", "uid": "first"}] if name in self._former else [],
                    },
                    "status": {
                        "unit": GIB,
                        "agentVersion": "0.1.0",
                        "gpus": gpus,
                        "grants": self._grants.get(name, []),
                        "slices": self._slices.get(name, []),
                        "conditions": self._conditions.get(name, []),
                    },
                }
            )
            for name, gpus in self._gpus.items()
        ]
        return snapshot_of(
            pods=self._pods,
            nodes=self._nodes,
            reports=reports,
            allocations=self._allocations,
            policies=self._policies,
            at=NOW.timestamp(),
        )


def demo() -> Site:
    """The demo's two workloads on one GPU of 12 GiB, and the one that has to wait."""
    joined = "team-b/posters (Background) joined gpu-1/0"
    return (
        Site()
        .node(used=11520 * MIB)
        .policy()
        .pod("team-a/chat-x2k8q", allocation="chat", target=("0.904", 9256), revision=2, measured=8702, reason=joined)
        .pod(
            "team-b/posters-4k2wz",
            kind="ImageGeneration",
            priority="Background",
            full="6Gi",
            floor="1843Mi",
            allocation="posters",
            target=("0.493", 3028),
            measured=2818,
            reason="placed on gpu-1/0 beside team-a/chat (High)",
        )
        .pod(
            "team-c/render-0",
            kind="VideoGeneration",
            priority="Low",
            full="24Gi",
            floor="10Gi",
            allocation="render",
            age=41,
            unschedulable="0/1 nodes are available: 1 no GPU with room for the floor.",
        )
    )


def event(about: str, reason: str, message: str, *, ago: float = 120.0) -> Event:
    """An event about the object with this uid."""
    told: Event = _read(
        Event,
        {"involvedObject": {"uid": about}, "reason": reason, "message": message, "lastTimestamp": before(ago)},
    )
    return told


def _grant(target: tuple[str, int], revision: int, reason: str) -> TargetGrant:
    quality, size = target
    return TargetGrant(
        quality=quality,
        vram=size * MIB,
        revision=revision,
        pressure=MemoryPressure.HIGH,
        mode="Adaptive",
        reason=reason,
    )


def _made_anew(node: Node) -> Node:
    return replace(node, metadata=replace(node.metadata, uid="second"))


def _read(model: Any, body: dict[str, Any]) -> Any:
    return codec.decode(json.dumps(body).encode(), model)
