"""What a newcomer costs everybody on a node, exactly: the equilibrium with and without it.

Imports the standard library only.
"""

from fractions import Fraction

from arbiter.demand import Demand
from arbiter.equilibrium import Equilibrium, Member, solve
from arbiter.ids import GpuUuid, PodUid
from arbiter.placement.load import NodeLoad
from arbiter.placement.rooms import GpuRoom

_NEWCOMER = PodUid("")


def loss(node: NodeLoad, gpus: tuple[GpuUuid, ...], demand: Demand) -> Fraction:
    """Quality that a newcomer on these GPUs lacks and its neighbours lose, weighted by priority."""
    coupled = _coupled(node, gpus)
    members = {member.uid: member for gpu in coupled for member in gpu.members}
    names = tuple(gpu.uuid for gpu in coupled)
    if names not in node.solved:
        node.solved[names] = _solve(node, coupled, tuple(members.values()))
    before = node.solved[names].targets
    newcomer = Member(uid=_NEWCOMER, demand=demand, gpus=gpus)
    after = _solve(node, coupled, (*members.values(), newcomer)).targets
    lost = demand.priority.quality_multiplier * (demand.maximum - (after[_NEWCOMER].quality or 0))
    for uid, member in members.items():
        drop = (before[uid].quality or Fraction(0)) - (after[uid].quality or Fraction(0))
        lost += member.demand.priority.quality_multiplier * drop
    return lost


def _coupled(node: NodeLoad, gpus: tuple[GpuUuid, ...]) -> list[GpuRoom]:
    """These GPUs, and all that members of several GPUs couple with them; no other's prices can change."""
    reached, grown = set[GpuUuid](), set(gpus)
    while grown != reached:
        reached = grown
        here = (member for gpu in node.room.gpus if gpu.uuid in reached for member in gpu.members)
        grown = reached.union(*(member.gpus for member in here))
    return [gpu for gpu in node.room.gpus if gpu.uuid in reached]


def _solve(node: NodeLoad, gpus: list[GpuRoom], members: tuple[Member, ...]) -> Equilibrium:
    capacities = {gpu.uuid: max(0, gpu.usable - gpu.reserved) for gpu in gpus}
    return solve(capacities, members, node.room.policy)
