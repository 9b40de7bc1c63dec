"""What one node has for a newcomer: the best of its GPUs by the strategy, or all options where somebody gives way.

Imports the standard library only.
"""

from dataclasses import dataclass
from enum import StrEnum

from arbiter.placement.load import GpuLoad, NodeLoad, Wish, linked
from arbiter.placement.mix import Mix
from arbiter.placement.offers import Alike, Bid, Option, Rank, Tier


class Strategy(StrEnum):
    """Which of the GPUs that cost nobody quality are taken first: by what stays usable for others, or the emptiest."""

    PACKED = "packed"
    SPREAD = "spread"


@dataclass(frozen=True, slots=True)
class Bidding:
    """By a strategy, and by those who are expected (None: nobody)."""

    strategy: Strategy
    mix: Mix | None = None

    @property
    def by_gpu(self) -> bool:
        """Whether, where CPU is not known, what a GPU is to whoever wants one depends on no other GPU."""
        return self.mix is None or self.mix.by_gpu

    def of_node(self, node: NodeLoad, alike: Alike) -> Bid | None:
        """The node's best; None where there is no room for the floor."""
        wish, cpu, owner = alike
        if not node.has_room(wish.gpus, wish.floor, cpu=cpu):
            return None
        gpus = node.distinct if wish.gpus == 1 and not owner else node.gpus
        roomy = [gpu for gpu in gpus if gpu.floor >= wish.floor and gpu.spare(wish) >= 0]
        if len(roomy) >= wish.gpus:
            return self._roomy(node, roomy, alike)
        best = options(node, wish)[0]
        return Bid(Rank(Tier.CROWDED, 0, best.strain, best.spare))

    def of_gpu(self, node: NodeLoad, place: int, wish: Wish) -> Bid | None:
        """The same of a single GPU, where the node's CPU is not known."""
        gpu = node.gpus[place]
        if gpu.floor < wish.floor:
            return None
        spare = gpu.spare(wish)
        if spare < 0:
            return Bid(Rank(Tier.CROWDED, 0, gpu.strain(wish), spare))
        return Bid(Rank(Tier.ROOMY, 0, self._score(node, (gpu,), wish, cpu=0), 0))

    def _roomy(self, node: NodeLoad, gpus: list[GpuLoad], alike: Alike) -> Bid:
        wish, cpu, owner = alike
        if wish.gpus == 1:
            replicas, score, uuid = min(
                [
                    (gpu.owners.get(owner, 0) if owner else 0, self._score(node, (gpu,), wish, cpu=cpu), gpu.uuid)
                    for gpu in gpus
                ]
            )
            return Bid(Rank(Tier.ROOMY, replicas, score, 0), node.places({uuid}))
        sign = -1 if self.strategy is Strategy.SPREAD else 1
        group = linked(
            gpus,
            wish.gpus,
            rank=lambda gpu: (gpu.owners.get(owner, 0) if owner else 0, sign * gpu.spare(wish), gpu.uuid),
        )
        replicas = sum(gpu.owners.get(owner, 0) for gpu in group) if owner else 0
        score = self._score(node, group, wish, cpu=cpu)
        return Bid(Rank(Tier.ROOMY, replicas, score, 0), node.places({gpu.uuid for gpu in group}))

    def _score(self, node: NodeLoad, group: tuple[GpuLoad, ...], wish: Wish, *, cpu: int) -> int:
        if self.mix is not None:
            return self.mix.worsening(node, group, wish, cpu=cpu)
        spare = sum([gpu.spare(wish) for gpu in group])
        return -spare if self.strategy is Strategy.SPREAD else spare


def options(node: NodeLoad, wish: Wish) -> list[Option]:
    """What a node has where somebody gives way, the least strain first."""
    gpus = [gpu for gpu in node.gpus if gpu.floor >= wish.floor]
    if wish.gpus == 1:
        return sorted([_option(node, (gpu,), wish) for gpu in gpus])
    chosen = linked(
        gpus, wish.gpus, rank=lambda gpu: (gpu.spare(wish) < 0, gpu.strain(wish), gpu.spare(wish), gpu.uuid)
    )
    return [_option(node, chosen, wish)]


def _option(node: NodeLoad, gpus: tuple[GpuLoad, ...], wish: Wish) -> Option:
    """`spare` is that of the GPU where somebody has to give way most."""
    return Option(
        strain=sum(gpu.strain(wish) for gpu in gpus),
        spare=min(gpu.spare(wish) for gpu in gpus),
        node=node.room.name,
        gpus=tuple(gpu.uuid for gpu in gpus),
    )
