"""Which GPUs a newcomer should get, for the scheduler extender, `arbiter plan` and `arbiter simulate` alike.

`rooms` is the picture that callers draw, `load` the same in integers, `census` who runs and so is to be expected, `mix`
how usable memory stays for those, `loss` what a newcomer costs exactly, `bids` what a node has for one, `offers` how
that is told, `spots` whatever looks alike, the best first, `recent` bounds what is remembered, `index` is the decision.
Imports the standard library only.
"""

from collections.abc import Iterable

from arbiter.demand import Demand
from arbiter.placement.bids import Strategy
from arbiter.placement.index import SOLVED, Placement
from arbiter.placement.rooms import Choice, GpuRoom, Idle, Newcomer, NodeRoom, fits

__all__ = ["SOLVED", "Choice", "GpuRoom", "Idle", "Newcomer", "NodeRoom", "Placement", "Strategy", "choose", "fits"]


def choose(nodes: Iterable[NodeRoom], demand: Demand) -> Choice | None:
    """The best GPUs of the best of these nodes, asked once."""
    placement = Placement()
    for node in nodes:
        placement.put(node)
    return placement.choose(Newcomer(demand=demand))
