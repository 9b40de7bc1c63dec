"""What a newcomer costs everybody on a node, exactly: the equilibrium with and without it.

Imports the standard library only.
"""

from fractions import Fraction

from arbiter.demand import Demand, thousandths
from arbiter.equilibrium import Member, solve
from arbiter.ids import GpuUuid, PodUid
from arbiter.placement.load import KEPT_LOSSES, Newcomers, NodeLoad, weight_of
from arbiter.placement.rooms import GpuRoom

_NEWCOMER = PodUid("")


def loss(node: NodeLoad, gpus: tuple[GpuUuid, ...], demand: Demand) -> Fraction:
    """Quality that a newcomer on these GPUs lacks and its neighbours lose, weighted by priority."""
    coupled = _coupled(node, gpus)
    names = tuple(gpu.uuid for gpu in coupled)
    newcomers = Newcomers(names, gpus, demand)
    known = node.losses.get(newcomers)
    if known is None:
        members = tuple({member.uid: member for gpu in coupled for member in gpu.members}.values())
        if names not in node.worths:
            node.worths[names] = _worth(node, coupled, members)
        newcomer = Member(uid=_NEWCOMER, demand=demand, gpus=gpus)
        wished = weight_of(demand) * thousandths(demand.maximum)
        lost = node.worths[names] + wished - _worth(node, coupled, (*members, newcomer))
        if len(node.losses) >= KEPT_LOSSES:
            node.losses.clear()
        known = node.losses[newcomers] = Fraction(lost, 1000 * 1000)
    return known


def _worth(node: NodeLoad, gpus: list[GpuRoom], members: tuple[Member, ...]) -> int:
    """The quality that these members get, in thousandths, weighted by priority in thousandths; held ones get none."""
    capacities = {gpu.uuid: max(0, gpu.usable - gpu.reserved) for gpu in gpus}
    targets = solve(capacities, members, node.room.policy).targets
    return sum(
        [
            weight_of(member.demand) * thousandths(quality)
            for member in members
            if (quality := targets[member.uid].quality) is not None
        ]
    )


def _coupled(node: NodeLoad, gpus: tuple[GpuUuid, ...]) -> list[GpuRoom]:
    """These GPUs, and all that members of several GPUs couple with them; no other's prices can change."""
    reached, grown = set[GpuUuid](), set(gpus)
    while grown != reached:
        reached = grown
        here = (member for gpu in node.room.gpus if gpu.uuid in reached for member in gpu.members)
        grown = reached.union(*(member.gpus for member in here))
    return [gpu for gpu in node.room.gpus if gpu.uuid in reached]
