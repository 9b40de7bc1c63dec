"""Which GPUs a new demand should get: where everybody keeps full quality, packed; else where the least is lost.

Pure functions over a picture of nodes, used by the scheduler extender and by `arbiter plan` alike. Imports the
standard library only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from arbiter.demand import Demand
from arbiter.equilibrium import Equilibrium, Member, solve
from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.policy import Policy
from arbiter.units import slices_for

_NEWCOMER = PodUid("")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRoom:
    """One GPU: `usable` bytes, its members, and `reserved` bytes in whole slices.

    Reserved is what floors keep that are not among the members: nominated and softly held ones, and slices that the
    kubelet still counts after a floor was lowered.
    """

    uuid: GpuUuid
    usable: int
    members: tuple[Member, ...] = ()
    reserved: int = 0

    @property
    def free(self) -> int:
        """Bytes that a floor may take beside the floors and held bytes of the members."""
        return self.usable - self.reserved - sum(max(member.demand.floor, member.held or 0) for member in self.members)

    def free_in_slices(self, unit: int) -> int:
        """Bytes that the kubelet can still reserve: it hands out whole slices of `unit` bytes, floors rounded up."""
        taken = sum(slices_for(member.demand.floor, unit=unit) for member in self.members)
        return (self.usable // unit - taken) * unit - self.reserved

    def spare(self, demand: Demand, policy: Policy) -> Fraction:
        """Bytes left with everybody, `demand` too, at full size; negative where somebody would have to give way."""
        newcomer = Member(uid=_NEWCOMER, demand=demand, gpus=(self.uuid,))
        room, wanted = Fraction(self.usable - self.reserved), 0
        for member in (*self.members, newcomer):
            if member.gives_way:
                wanted += member.demand.full
            else:
                room -= member.demand.full if member.held is None else member.held
        return min(room, room * policy.pressure_threshold) - wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRoom:
    """One node: every GPU that a member is on, the policy in force, bytes of a slice (1: floors are not rounded)."""

    name: NodeName
    gpus: tuple[GpuRoom, ...]
    policy: Policy
    unit: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The best GPUs of a node. `loss`: quality lost, weighted by priority; `spare`: bytes left at full sizes."""

    gpus: tuple[GpuUuid, ...]
    loss: Fraction
    spare: Fraction

    @property
    def rank(self) -> tuple[bool, Fraction, Fraction]:
        """Smaller is better: nobody gives way, then the least loss, then the tightest fit."""
        return self.spare < 0, self.loss, self.spare


def fits(node: NodeRoom, demand: Demand) -> bool:
    """Whether `demand.gpu_count` GPUs of the node have room for its floor."""
    return len(_fitting(node, demand)) >= demand.gpu_count


def choose_gpus(node: NodeRoom, demand: Demand) -> Choice | None:
    """The best GPUs of one node, in the order of their uuids; None where it does not fit.

    For several GPUs the best ones are taken one by one, not all of their combinations compared.
    """
    fitting = _fitting(node, demand)
    if len(fitting) < demand.gpu_count:
        return None
    before = _Before(node)
    singly = sorted((before.choice((gpu,), demand) for gpu in fitting), key=lambda choice: (*choice.rank, choice.gpus))
    if demand.gpu_count == 1:
        return singly[0]
    chosen = {uuid for choice in singly[: demand.gpu_count] for uuid in choice.gpus}
    return before.choice([gpu for gpu in fitting if gpu.uuid in chosen], demand)


def choose(nodes: Iterable[NodeRoom], demand: Demand) -> tuple[NodeName, tuple[GpuUuid, ...]] | None:
    """The best node and its GPUs; equals by name. None where it fits nowhere."""
    choices = ((node.name, choose_gpus(node, demand)) for node in nodes)
    candidates = [(*choice.rank, name, choice.gpus) for name, choice in choices if choice is not None]
    if not candidates:
        return None
    *_, name, gpus = min(candidates)
    return name, gpus


def _fitting(node: NodeRoom, demand: Demand) -> list[GpuRoom]:
    needed = slices_for(demand.floor, unit=node.unit) * node.unit
    return sorted(
        (gpu for gpu in node.gpus if demand.floor <= gpu.free and needed <= gpu.free_in_slices(node.unit)),
        key=lambda gpu: gpu.uuid,
    )


class _Before:
    """A node before the newcomer, solved at most once and only if somebody would have to give way."""

    def __init__(self, node: NodeRoom) -> None:
        self._node = node
        self._members = {member.uid: member for gpu in node.gpus for member in gpu.members}
        self._solved: Equilibrium | None = None

    def choice(self, gpus: Sequence[GpuRoom], demand: Demand) -> Choice:
        """What it means to put `demand` on these GPUs."""
        uuids = tuple(gpu.uuid for gpu in gpus)
        spares = [gpu.spare(demand, self._node.policy) for gpu in gpus]
        crowded = min(spares) < 0
        return Choice(
            gpus=uuids,
            loss=self._loss(Member(uid=_NEWCOMER, demand=demand, gpus=uuids)) if crowded else Fraction(0),
            spare=min(spares) if crowded else sum(spares, Fraction(0)),
        )

    def _loss(self, newcomer: Member) -> Fraction:
        if self._solved is None:
            self._solved = self._solve(())
        before, after = self._solved.targets, self._solve((newcomer,)).targets
        lost = newcomer.demand.priority.quality_multiplier * (
            newcomer.demand.maximum - (after[newcomer.uid].quality or 0)
        )
        for uid, member in self._members.items():
            drop = (before[uid].quality or Fraction(0)) - (after[uid].quality or Fraction(0))
            lost += member.demand.priority.quality_multiplier * drop
        return lost

    def _solve(self, newcomers: tuple[Member, ...]) -> Equilibrium:
        capacities = {gpu.uuid: max(0, gpu.usable - gpu.reserved) for gpu in self._node.gpus}
        return solve(capacities, (*self._members.values(), *newcomers), self._node.policy)
