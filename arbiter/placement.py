"""Which GPUs a new demand should get: where everybody keeps full quality, packed; else where the least is lost.

Pure functions over a picture of nodes, used by the scheduler extender and by `arbiter plan` alike. What is lost is
known only by solving a node, so a cheap estimate chooses who is solved. Imports the standard library only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from heapq import nsmallest

from arbiter.demand import Demand
from arbiter.equilibrium import Equilibrium, Member, solve
from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.policy import Policy
from arbiter.units import slices_for

SOLVED = 16
"""How many options at most are solved exactly, whatever the size of the cluster: those that the estimate puts first."""

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

    def largest_floor(self, *, unit: int) -> int:
        """The largest floor that has room beside the others: in bytes, and in the whole slices that the kubelet has.

        Bytes are taken by floors and held bytes of the members, slices of `unit` bytes by their floors, rounded up.
        """
        floors = sum(slices_for(member.demand.floor, unit=unit) for member in self.members) * unit
        held = sum(max(member.demand.floor, member.held or 0) for member in self.members)
        in_bytes = self.usable - self.reserved - held
        in_slices = (self.usable // unit * unit - floors - self.reserved) // unit * unit
        return max(0, min(in_bytes, in_slices))

    def spare(self, demand: Demand, policy: Policy) -> Fraction:
        """Bytes left with everybody, `demand` too, at full size; negative where somebody would have to give way."""
        load = self._load((*self.members, _newcomer(demand, self)), policy)
        return load.room - load.wanted

    def strain(self, demand: Demand, policy: Policy) -> Fraction:
        """About how much quality `demand` would cost here, weighted by priority.

        As if all who give way got the same part of their full size: a good guess without solving anything.
        """
        after = self._load((*self.members, _newcomer(demand, self)), policy)
        return after.strain - self._load(self.members, policy).strain

    def _load(self, members: Iterable[Member], policy: Policy) -> "_Load":
        room, wanted, weight = Fraction(self.usable - self.reserved), 0, Fraction(0)
        for member in members:
            if member.gives_way:
                wanted += member.demand.full
                weight += member.demand.priority.quality_multiplier
            else:
                room -= member.demand.full if member.held is None else member.held
        return _Load(room=min(room, room * policy.pressure_threshold), wanted=wanted, weight=weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """Bytes for those who give way while nobody has to, the full sizes that they want, the weights of their quality."""

    room: Fraction
    wanted: int
    weight: Fraction

    @property
    def strain(self) -> Fraction:
        """Quality lost in all where everybody gets the same part of what is wanted."""
        if self.wanted <= self.room:
            return Fraction(0)
        return self.weight * (1 - max(self.room, Fraction(0)) / self.wanted)


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

    node: NodeName
    gpus: tuple[GpuUuid, ...]
    loss: Fraction
    spare: Fraction

    @property
    def rank(self) -> tuple[Fraction, Fraction, NodeName, tuple[GpuUuid, ...]]:
        """Smaller is better: the least loss, then the tightest fit, then by name."""
        return self.loss, self.spare, self.node, self.gpus


def fits(node: NodeRoom, demand: Demand) -> bool:
    """Whether `demand.gpu_count` GPUs of the node have room for its floor."""
    return len(_fitting(node, demand)) >= demand.gpu_count


def choose(nodes: Iterable[NodeRoom], demand: Demand) -> Choice | None:
    """The best GPUs of the best node; None where the demand fits nowhere.

    Where some GPU takes everybody at full size, the tightest such; nothing is solved. Else the least loss among the
    `SOLVED` options with the least strain. For several GPUs each node offers those that are best one by one, not all
    of their combinations.
    """
    options = [option for node in nodes for option in _options(node, demand)]
    roomy = [option for option in options if option.spare >= 0]
    if roomy:
        return min((option.choice(loss=Fraction(0)) for option in roomy), key=lambda choice: choice.rank)
    likely = nsmallest(SOLVED, options, key=lambda option: option.likelihood(demand))
    before = {name: _solve(node, ()) for name, node in {option.node.name: option.node for option in likely}.items()}
    choices = (option.choice(loss=_loss(option, demand, before=before[option.node.name])) for option in likely)
    return min(choices, key=lambda choice: choice.rank, default=None)


def _fitting(node: NodeRoom, demand: Demand) -> list[GpuRoom]:
    with_room = (gpu for gpu in node.gpus if demand.floor <= gpu.largest_floor(unit=node.unit))
    return sorted(with_room, key=lambda gpu: gpu.uuid)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """GPUs of one node that have room for the floor; `spare` as in `Choice`."""

    node: NodeRoom
    gpus: tuple[GpuRoom, ...]
    spare: Fraction

    @property
    def uuids(self) -> tuple[GpuUuid, ...]:
        """Its GPUs."""
        return tuple(gpu.uuid for gpu in self.gpus)

    def likelihood(self, demand: Demand) -> tuple[Fraction, Fraction, NodeName, tuple[GpuUuid, ...]]:
        """The rank that it would have if its strain were its loss."""
        strain = sum((gpu.strain(demand, self.node.policy) for gpu in self.gpus), Fraction(0))
        return self.choice(loss=strain).rank

    def choice(self, *, loss: Fraction) -> Choice:
        """The answer, should it be the best."""
        return Choice(node=self.node.name, gpus=self.uuids, loss=loss, spare=self.spare)


def _options(node: NodeRoom, demand: Demand) -> list[_Option]:
    fitting = _fitting(node, demand)
    if len(fitting) < demand.gpu_count:
        return []
    singly = [_option(node, (gpu,), demand) for gpu in fitting]
    if demand.gpu_count == 1:
        return singly
    best = nsmallest(demand.gpu_count, singly, key=lambda option: (option.spare < 0, option.likelihood(demand)))
    chosen = {uuid for option in best for uuid in option.uuids}
    return [_option(node, tuple(gpu for gpu in fitting if gpu.uuid in chosen), demand)]


def _option(node: NodeRoom, gpus: tuple[GpuRoom, ...], demand: Demand) -> _Option:
    spares = [gpu.spare(demand, node.policy) for gpu in gpus]
    crowded = min(spares) < 0
    return _Option(node=node, gpus=gpus, spare=min(spares) if crowded else sum(spares, Fraction(0)))


def _newcomer(demand: Demand, *gpus: GpuRoom) -> Member:
    return Member(uid=_NEWCOMER, demand=demand, gpus=tuple(gpu.uuid for gpu in gpus))


def _loss(option: _Option, demand: Demand, *, before: Equilibrium) -> Fraction:
    """Quality that the newcomer lacks and its neighbours lose, weighted by priority, solved exactly."""
    after = _solve(option.node, (_newcomer(demand, *option.gpus),)).targets
    lost = demand.priority.quality_multiplier * (demand.maximum - (after[_NEWCOMER].quality or 0))
    for uid, member in _members(option.node).items():
        drop = (before.targets[uid].quality or Fraction(0)) - (after[uid].quality or Fraction(0))
        lost += member.demand.priority.quality_multiplier * drop
    return lost


def _solve(node: NodeRoom, newcomers: tuple[Member, ...]) -> Equilibrium:
    capacities = {gpu.uuid: max(0, gpu.usable - gpu.reserved) for gpu in node.gpus}
    return solve(capacities, (*_members(node).values(), *newcomers), node.policy)


def _members(node: NodeRoom) -> dict[PodUid, Member]:
    """Everybody on the node; a member of several GPUs counts once."""
    return {member.uid: member for gpu in node.gpus for member in gpu.members}
