"""A trace placed by the rule that the scheduler extender uses. Imports the standard library only."""

import math
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from arbiter.demand import Demand
from arbiter.equilibrium import Member, solve
from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.placement import GpuRoom, Idle, Newcomer, NodeRoom, Placement
from arbiter.policy import Policy
from arbiter.simulation.trace import WHOLE, TraceNode, TracePod
from arbiter.units import MIB
from arbiter.workload import Priority, WorkloadType

MILLI = 16 * MIB
"""Bytes that stand for a thousandth of a GPU. Quality is as fine, so that rounding to MiB costs nothing."""

_POLICY = Policy()


class Ours:
    """Arbiter's placement. Pods with a part of a GPU may shrink to `floor` (0..1) of what they ask for; 1: never."""

    def __init__(self, nodes: Iterable[TraceNode], *, floor: Fraction) -> None:
        self._floor = floor
        self._newcomers: dict[TracePod, Newcomer] = {}
        self._placement = Placement()
        self._rooms = {NodeName(node.name): _empty(node) for node in nodes}
        for room in self._rooms.values():
            self._placement.put(room)
        self._placed = 0
        self._used = 0

    def place(self, pod: TracePod) -> bool:
        """Takes room for one pod; False where there is none."""
        newcomer = self._newcomer(pod)
        choice = self._placement.choose(newcomer)
        if choice is None:
            return False
        self._placed += 1
        member = Member(uid=PodUid(f"{self._placed:08}"), demand=newcomer.demand, gpus=choice.gpus)
        before = self._rooms[choice.node]
        after = self._rooms[choice.node] = _joined(before, newcomer, member)
        self._placement.put(after)
        self._used += _used(after, choice.gpus) - _used(before, choice.gpus)
        return True

    def used(self) -> int:
        """Thousandths of GPUs in use, everybody at full size as far as the GPU goes."""
        return self._used // MILLI

    def quality(self) -> float:
        """Mean quality of the pods with GPUs; 1 where there are none."""
        qualities = [quality for room in self._rooms.values() for quality in _qualities(room)]
        return float(sum(qualities) / len(qualities)) if qualities else 1.0

    def _newcomer(self, pod: TracePod) -> Newcomer:
        newcomer = self._newcomers.get(pod)
        if newcomer is None:
            newcomer = self._newcomers[pod] = Newcomer(
                demand=_demand(pod, floor=self._floor if pod.is_share else Fraction(1)),
                cpu=pod.cpu,
                memory=pod.memory * MIB,
                models=pod.models,
            )
        return newcomer


def _demand(pod: TracePod, *, floor: Fraction) -> Demand:
    return Demand(
        workload_type=WorkloadType.LLM_INFERENCE,
        priority=Priority.NORMAL,
        full=pod.milli * MILLI,
        floor=math.ceil(pod.milli * MILLI * floor),
        maximum=Fraction(1),
        minimum=floor,
        gpu_count=pod.gpus,
    )


def _empty(node: TraceNode) -> NodeRoom:
    return NodeRoom(
        name=NodeName(node.name),
        gpus=tuple(GpuRoom(uuid=GpuUuid(f"{node.name}/{at:02}"), usable=WHOLE * MILLI) for at in range(node.gpus)),
        policy=_POLICY,
        idle=Idle(cpu=node.cpu, memory=node.memory * MIB),
        model=node.model,
    )


def _joined(room: NodeRoom, newcomer: Newcomer, member: Member) -> NodeRoom:
    """The node once the newcomer runs there. GPUs that it does not touch stay the same objects."""
    idle = room.idle
    return replace(
        room,
        gpus=tuple(
            replace(gpu, members=(*gpu.members, member), arrived=(*gpu.arrived, newcomer))
            if gpu.uuid in member.gpus
            else gpu
            for gpu in room.gpus
        ),
        idle=None if idle is None else Idle(cpu=idle.cpu - newcomer.cpu, memory=idle.memory - newcomer.memory),
    )


def _used(room: NodeRoom, uuids: tuple[GpuUuid, ...]) -> int:
    return sum(
        min(gpu.usable, sum(member.demand.full for member in gpu.members)) for gpu in room.gpus if gpu.uuid in uuids
    )


def _qualities(room: NodeRoom) -> Iterable[Fraction]:
    members = {member.uid: member for gpu in room.gpus for member in gpu.members}
    targets = solve({gpu.uuid: gpu.usable for gpu in room.gpus}, members.values(), room.policy).targets
    return (target.quality for target in targets.values() if target.quality is not None)
