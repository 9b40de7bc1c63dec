"""What groups of pods would get on given GPUs: what scheduler extender and operator would decide. Pure.

Every pod counts as not started yet, so that sizes which are set once at a start are still open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from arbiter.equilibrium import Equilibrium, GpuPrice, Member, Target, solve
from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.placement import GpuRoom, Newcomer, NodeRoom, Placement
from arbiter.policy import Policy
from arbiter_cli.errors import InputError
from arbiter_cli.groups import Candidate, Group, Request
from arbiter_operator.waiting import shortage

MOST_PODS = 2000
"""More than this find no place in a plan: it would take long, and nobody would read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node to plan for: the usable bytes of its GPUs, by the names that they have in the answer."""

    name: NodeName
    gpus: Mapping[GpuUuid, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A pod and its GPUs."""

    candidate: Candidate
    gpus: tuple[GpuUuid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """A pod without room, and why; `replicas` counts those like it that follow, and itself."""

    candidate: Candidate
    reason: str
    replicas: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer, in the order of the manifests."""

    policy: Policy
    placed: tuple[Placed, ...]
    unplaced: tuple[Unplaced, ...]
    prices: Mapping[GpuUuid, GpuPrice]
    targets: Mapping[PodUid, Target]

    def target_of(self, candidate: Candidate) -> tuple[Fraction, int]:
        """Quality and bytes per GPU of a placed candidate."""
        target = self.targets[candidate.uid]
        # None stands for a held member, and in a plan nobody runs yet.
        return target.quality or Fraction(0), target.vram

    def members_of(self, gpu: GpuUuid) -> list[Placed]:
        """Who is on one GPU."""
        return [one for one in self.placed if gpu in one.gpus]


def plan(request: Request, nodes: Sequence[Node], *, unit: int) -> Plan:
    """Places the pods one by one on nodes that are empty at first, then solves the equilibrium of each node.

    Raises:
        InputError: more pods find room than anybody can plan.
    """
    board = _Board(nodes, policy=request.policy, unit=unit)
    unplaced = [missing for group in request.groups for missing in board.place(group)]
    solved = [_solve(room) for room in board.rooms.values()]
    return Plan(
        policy=request.policy,
        placed=tuple(board.placed),
        unplaced=tuple(unplaced),
        prices={gpu: price for node in solved for gpu, price in node.prices.items()},
        targets={uid: target for node in solved for uid, target in node.targets.items()},
    )


def _solve(room: NodeRoom) -> Equilibrium:
    """What they get who start together there."""
    members = {member.uid: replace(member, held=None) for gpu in room.gpus for member in gpu.members}
    return solve({gpu.uuid: gpu.usable for gpu in room.gpus}, members.values(), room.policy)


class _Board:
    """The nodes while they fill up: `rooms` with the pods that were `placed`."""

    def __init__(self, nodes: Sequence[Node], *, policy: Policy, unit: int) -> None:
        self.placed: list[Placed] = []
        self.rooms: dict[NodeName, NodeRoom] = {}
        self._placement = Placement()
        for node in nodes:
            gpus = tuple(GpuRoom(uuid=uuid, usable=usable) for uuid, usable in node.gpus.items())
            self._put(NodeRoom(name=node.name, gpus=gpus, policy=policy, unit=unit))

    def place(self, group: Group) -> list[Unplaced]:
        """Places those that have room; of replicas the first that has none speaks for the rest."""
        if group.replicas is None:
            count = len(self.rooms)
            tried = [self._place(group, number, of=count, on=[node]) for number, node in enumerate([*self.rooms])]
            return [missing for missing in tried if missing is not None]
        for number in range(group.replicas):
            missing = self._place(group, number, of=group.replicas, on=[*self.rooms])
            if missing is not None:
                return [replace(missing, replicas=group.replicas - number)]
        return []

    def _place(self, group: Group, number: int, *, of: int, on: Sequence[NodeName]) -> Unplaced | None:
        pod = group.pod(number, of=of)
        choice = self._placement.choose(Newcomer(demand=pod.demand, owner=group.owner), on)
        if choice is None:
            return Unplaced(candidate=pod, reason=self._why_not(pod, on))
        if len(self.placed) == MOST_PODS:
            raise InputError(f"more than {MOST_PODS} pods find room; plan for fewer replicas or GPUs.")
        self.placed.append(Placed(candidate=pod, gpus=choice.gpus))
        owners = () if group.owner is None else (group.owner,)
        room = self.rooms[choice.node]
        member = Member(
            uid=pod.uid,
            name=f"{pod.namespace}/{pod.name}",
            demand=pod.demand,
            gpus=choice.gpus,
            # As the extender counts who is sized once, until it has started.
            held=None if room.policy.resizes(pod.demand.resize) else pod.demand.full,
        )
        gpus = (
            replace(gpu, members=(*gpu.members, member), owners=(*gpu.owners, *owners))
            if gpu.uuid in choice.gpus
            else gpu
            for gpu in room.gpus
        )
        self._put(replace(room, gpus=tuple(gpus)))
        return None

    def _put(self, room: NodeRoom) -> None:
        self.rooms[room.name] = room
        self._placement.put(room)

    def _why_not(self, pod: Candidate, on: Sequence[NodeName]) -> str:
        called = {one.candidate.uid: _called(one.candidate) for one in self.placed}
        labels = {gpu.uuid: gpu.uuid for room in self.rooms.values() for gpu in room.gpus}
        return shortage(pod.demand, [self.rooms[name] for name in on], labels=labels, name=called.__getitem__)


def _called(pod: Candidate) -> str:
    return f"{pod.namespace}/{pod.name} ({pod.demand.priority.value})"
