"""What placement knows of nodes and of those who come: the picture that a caller draws and keeps up to date.

Imports the standard library only.
"""

from dataclasses import dataclass
from fractions import Fraction

from arbiter.demand import Demand
from arbiter.equilibrium import Member
from arbiter.ids import GpuUuid, NodeName, OwnerUid
from arbiter.policy import Policy
from arbiter.units import slices_for


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRoom:
    """One GPU: `usable` bytes, its members, and `reserved` bytes in whole slices.

    Reserved is what is kept for nobody among the members: floors of nominated pods, and slices that the kubelet counts
    beyond its members' floors. `owners` are those of all whose floors are kept here, one entry
    for each; `links` the node's GPUs that it reaches directly. `arrived` are the members as the newcomers that they
    were, where more than their demands is known; it says nothing about room.
    """

    uuid: GpuUuid
    usable: int
    members: tuple[Member, ...] = ()
    reserved: int = 0
    owners: tuple[OwnerUid, ...] = ()
    links: frozenset[GpuUuid] = frozenset()
    arrived: "tuple[Newcomer, ...]" = ()

    def largest_floor(self, *, unit: int) -> int:
        """The largest floor that has room beside the others: in bytes, and in the whole slices that the kubelet has.

        Bytes are taken by floors and held bytes of the members, slices of `unit` bytes by their floors, rounded up.
        """
        floors = sum(slices_for(member.demand.floor, unit=unit) for member in self.members) * unit
        held = sum(max(member.demand.floor, member.held or 0) for member in self.members)
        in_bytes = self.usable - self.reserved - held
        in_slices = (self.usable // unit * unit - floors - self.reserved) // unit * unit
        return max(0, min(in_bytes, in_slices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """CPU (thousandths of a core) and memory (bytes) of a node that nobody has asked for."""

    cpu: int
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRoom:
    """One node: every GPU that a member is on, the policy in force, bytes of a slice (1: floors are not rounded).

    Where `idle` is not known there is enough of both; `model` is that of its GPUs.
    """

    name: NodeName
    gpus: tuple[GpuRoom, ...]
    policy: Policy
    unit: int = 1
    idle: Idle | None = None
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """Who is to be placed: its demand, CPU (thousandths of a core) and memory (bytes), and the GPU models that will do.

    No models: any. The replicas of one `owner` are spread over GPUs where that costs nobody quality.
    """

    demand: Demand
    cpu: int = 0
    memory: int = 0
    models: frozenset[str] = frozenset()
    owner: OwnerUid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The best GPUs of the best node. `loss`: quality lost, weighted by priority; `spare`: bytes left at full sizes."""

    node: NodeName
    gpus: tuple[GpuUuid, ...]
    loss: Fraction
    spare: int


def fits(node: NodeRoom, demand: Demand) -> bool:
    """Whether `demand.gpu_count` GPUs of the node have room for its floor."""
    return sum(gpu.largest_floor(unit=node.unit) >= demand.floor for gpu in node.gpus) >= demand.gpu_count
