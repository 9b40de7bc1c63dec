"""What the node says of itself: the status of its GpuNode, made from everything that the agent knows.

Pure. Imports the API's models and the engine's statuses.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from arbiter.ids import GpuUuid, PodUid
from arbiter.transitions import GrantStatus
from arbiter.units import MIB, format_bytes
from arbiter_deviceplugin.backends import Gpu, Reading
from arbiter_deviceplugin.enforcement import Enforcement
from arbiter_deviceplugin.matching import ListedContainer
from arbiter_deviceplugin.monitor import measured_use, offenders
from arbiter_deviceplugin.slices import MOST_SLICES, count_by_gpu, count_of
from arbiter_kube.api.fields import Condition
from arbiter_kube.api.gpunode import (
    GpuNodeStatus,
    GpuNodeSummary,
    GpuStatus,
    GrantOnNode,
    GrantState,
    SliceCount,
)
from arbiter_kube.api.pods import GpuPod

_NEVER = datetime.min
"""Until the condition before it was looked at."""

USE_STEP = 256 * MIB
"""Measured use is told in such steps, rounded down: it changes all the time and nobody decides on a few MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """Everything that the status is made of. `unit` is the bytes of a slice in force, `wanted_unit` the setting's.

    `foreign` are others' resources with GPUs of this node, `devices` the GPUs that were said to be ours, if any were.
    `rungs` says how firmly grants are held on each GPU; none where a GPU is missing.
    """

    version: str
    boot_id: str
    vendor: str
    unit: int
    wanted_unit: int
    reading: Reading
    grants: tuple[GrantStatus, ...]
    pods: Mapping[PodUid, GpuPod]
    listed: tuple[ListedContainer, ...]
    foreign: tuple[str, ...]
    rungs: Mapping[GpuUuid, Enforcement]
    devices: tuple[str, ...] = ()
    isolation: str = "none"

    @property
    def conflicting(self) -> str:
        """The resources under which others offer what may be our GPUs; empty where there are none."""
        return "" if self.devices else ", ".join(self.foreign)

    def rung(self, gpu: Gpu) -> Enforcement:
        """How firmly grants are held on this GPU."""
        return self.rungs.get(gpu.uuid, Enforcement.NONE)


def node_status(facts: NodeFacts, *, before: GpuNodeStatus | None, now: datetime) -> GpuNodeStatus:
    """The status; conditions keep the time of their last transition from `before`."""
    grants = [_grant(status, facts) for status in facts.grants]
    return GpuNodeStatus(
        agent_version=facts.version,
        boot_id=facts.boot_id,
        unit=facts.unit,
        gpus=[_gpu(gpu, facts) for gpu in facts.reading.gpus],
        grants=grants,
        slices=_slices(facts.listed),
        summary=_summary(facts),
        conditions=_conditions(facts, before.conditions if before else (), now=now),
    )


def unreadable_status(before: GpuNodeStatus | None, *, why: str, now: datetime) -> GpuNodeStatus:
    """The status while an agent that has just started cannot read any GPU: what was known before, and that none can.

    No GPU is called unhealthy for it: pods of a lost GPU are evicted, and an agent that cannot see a driver is no sign
    that containers cannot. Nothing is placed there, since the kubelet is offered nothing.
    """
    known = before or GpuNodeStatus()
    ready = _false("Ready", "GpusUnreadable", f"no VRAM is offered, because no GPU can be read: {why}")
    was = {condition.type: condition for condition in known.conditions}
    conditions = was | {ready.type: _dated(ready, was.get(ready.type), now=now)}
    return known.model_copy(update={"conditions": list(conditions.values())})


def without_use(status: GpuNodeStatus) -> GpuNodeStatus:
    """The status without measured use, to tell a change that has to be told at once from one that may wait."""
    return status.model_copy(
        update={
            "gpus": [gpu.model_copy(update={"used": None}) for gpu in status.gpus],
            "grants": [grant.model_copy(update={"measured": None}) for grant in status.grants],
            "summary": status.summary.model_copy(update={"used": ""}),
        }
    )


def _gpu(gpu: Gpu, facts: NodeFacts) -> GpuStatus:
    return GpuStatus(
        uuid=gpu.uuid,
        index=gpu.index,
        name=gpu.name,
        vendor=facts.vendor,
        total=gpu.total,
        reserved=gpu.reserved,
        usable=gpu.usable,
        used=None if gpu.used is None else _stepped(gpu.used),
        healthy=gpu.healthy,
        reason=gpu.reason,
        enforcement=facts.rung(gpu),
        isolation=facts.isolation,
        confirmation="trust" if gpu.use is None else "measured",
        links=list(gpu.links),
    )


def _grant(status: GrantStatus, facts: NodeFacts) -> GrantOnNode:
    pod = facts.pods.get(status.uid)
    namespace, _, name = status.name.partition("/")
    measured = measured_use(facts.reading, status, pod)
    return GrantOnNode(
        pod_uid=status.uid,
        namespace=namespace,
        pod=name,
        container=pod.frozen.container if pod else "",
        gpus=list(status.gpus),
        granted=status.granted or None,
        quality=None if status.quality is None else float(status.quality),
        held=status.held,
        applied=status.applied,
        measured=None if measured is None else _stepped(measured),
        movable=status.movable,
        revision=status.revision or None,
        state=GrantState(status.state.value),
        waiting=status.waiting,
    )


def _slices(listed: Iterable[ListedContainer]) -> list[SliceCount]:
    return [
        SliceCount(
            namespace=container.pod.namespace, pod=container.pod.name, container=container.name, gpu=gpu, slices=count
        )
        for container in sorted(listed, key=lambda container: (container.pod, container.name))
        for gpu, count in sorted(count_by_gpu(container.slices).items())
    ]


def _summary(facts: NodeFacts) -> GpuNodeSummary:
    gpus = facts.reading.gpus
    pods = [pod for status in facts.grants if (pod := facts.pods.get(status.uid))]
    used = [_stepped(gpu.used) for gpu in gpus if gpu.used is not None]
    return GpuNodeSummary(
        gpus=len(gpus),
        healthy=f"{sum(gpu.healthy for gpu in gpus)}/{len(gpus)}",
        usable=_shown(sum(gpu.usable for gpu in gpus)),
        floors=_shown(sum(pod.slices for pod in pods) * facts.unit),
        granted=_shown(sum(status.granted * len(status.gpus) for status in facts.grants)),
        used=_shown(sum(used)),
        enforcement=_weakest(facts),
    )


def _weakest(facts: NodeFacts) -> Enforcement:
    """The rung that holds on every GPU."""
    ladder = list(Enforcement)
    return max((facts.rung(gpu) for gpu in facts.reading.gpus), key=ladder.index, default=Enforcement.NONE)


def _conditions(facts: NodeFacts, before: Iterable[Condition], *, now: datetime) -> list[Condition]:
    known = {condition.type: condition for condition in before}
    return [_dated(condition, known.get(condition.type), now=now) for condition in undated_conditions(facts)]


def undated_conditions(facts: NodeFacts) -> tuple[Condition, ...]:
    """What holds of the node now, without the times since when."""
    return (_ready(facts), _conflict(facts), _unit_mismatch(facts), _over(facts), _above_grant(facts))


def _ready(facts: NodeFacts) -> Condition:
    gpus = facts.reading.gpus
    if facts.conflicting:
        why = f"because others offer the same GPUs: {facts.conflicting}"
        return _false("Ready", "Conflict", f"no VRAM is offered, {why}.")
    count = count_of(gpus, unit=facts.unit)
    if count > MOST_SLICES:
        why = f"because slices of {format_bytes(facts.unit)} are {count} here, and the kubelet takes {MOST_SLICES}"
        return _false("Ready", "TooManySlices", f"no VRAM is offered, {why}; set a larger --vram-unit.")
    healthy = sum(gpu.healthy for gpu in gpus)
    offered = f"{'1 GPU is' if healthy == 1 else f'{healthy} GPUs are'} offered to containers"
    sick = (f"GPU {gpu.index} is not healthy: {(gpu.reason or '').rstrip('.')}" for gpu in gpus if not gpu.healthy)
    sentence = "; ".join((offered, *sick, *facts.reading.left_out)) + "."
    return _true("Ready", "Serving", sentence) if healthy else _false("Ready", "NoHealthyGpu", sentence)


def _conflict(facts: NodeFacts) -> Condition:
    if facts.conflicting:
        remedy = "remove their device plugin, or name our GPUs by --devices"
        return _true("Conflict", "OfferedTwice", f"others offer the same GPUs: {facts.conflicting}; {remedy}.")
    if facts.foreign:
        offers = ", ".join(facts.foreign)
        return _false("Conflict", "Selected", f"others offer GPUs too ({offers}), and --devices names those of ours.")
    return _false("Conflict", "OneOwner", "nobody else offers these GPUs.")


def _unit_mismatch(facts: NodeFacts) -> Condition:
    unit, wanted = format_bytes(facts.unit), format_bytes(facts.wanted_unit)
    if unit != wanted:
        held = f"slices of {unit} are held, so {wanted} is not used yet; drain the node and restart its agent."
        return _true("UnitMismatch", "SlicesHeld", held)
    return _false("UnitMismatch", "InForce", f"a slice is {unit}.")


def _over(facts: NodeFacts) -> Condition:
    over = ", ".join(_overcommitted(facts))
    if over:
        return _true("Overcommitted", "AboveUsable", f"promised and held memory exceeds what is usable of {over}.")
    return _false("Overcommitted", "WithinUsable", "promised and held memory fits.")


def _above_grant(facts: NodeFacts) -> Condition:
    """Names and not sizes, which are in the grants: the sentence must not change with every allocation."""
    kind = "MeasuredAboveGrant"
    found = offenders(facts.grants, facts.pods, facts.reading)
    if found:
        who = ", ".join(f"{offender.pod.key} (on {', '.join(offender.gpus)})" for offender in found)
        return _true(kind, "Offenders", f"more memory than they may hold is used by {who}.")
    if any(gpu.use is None for gpu in facts.reading.gpus):
        return _condition(kind, "Unknown", "NotMeasured", "the driver cannot tell which container uses how much.")
    return _false(kind, "WithinGrants", "no container uses more memory than it may hold.")


def _true(kind: str, reason: str, message: str) -> Condition:
    return _condition(kind, "True", reason, message)


def _false(kind: str, reason: str, message: str) -> Condition:
    return _condition(kind, "False", reason, message)


def _condition(kind: str, status: Literal["True", "False", "Unknown"], reason: str, message: str) -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message, last_transition_time=_NEVER)


def _dated(condition: Condition, before: Condition | None, *, now: datetime) -> Condition:
    since = before.last_transition_time if before and before.status == condition.status else now.replace(microsecond=0)
    return condition.model_copy(update={"last_transition_time": since})


def _overcommitted(facts: NodeFacts) -> list[str]:
    """Names of the GPUs whose containers are promised, or may hold, more than there is."""
    promised: dict[GpuUuid, int] = {}
    for status in facts.grants:
        pod = facts.pods.get(status.uid)
        floor = pod.demand.floor if pod and not status.gone and not pod.terminating else 0
        for gpu in status.gpus:
            promised[gpu] = promised.get(gpu, 0) + max(floor, status.held)
    usable = {gpu.uuid: gpu.usable for gpu in facts.reading.gpus}
    return sorted(gpu for gpu, size in promised.items() if size > usable.get(gpu, 0))


def _stepped(size: int) -> int:
    return size // USE_STEP * USE_STEP


def _shown(size: int) -> str:
    return format_bytes(size // MIB * MIB)
