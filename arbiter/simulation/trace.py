"""Nodes and pods of a trace, and the order in which pods arrive. Imports the standard library only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

WHOLE = 1000
"""One GPU, in thousandths: the unit of all GPU sizes in a trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceNode:
    """A machine: CPU in thousandths of a core, memory in MiB, how many GPUs, and their model."""

    name: str
    cpu: int
    memory: int
    gpus: int
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePod:
    """What a pod asks for: CPU and memory as above, `milli` thousandths of each of `gpus` GPUs, models that will do.

    No models: any. `milli` is `WHOLE` unless `gpus` is 1; both are 0 for a pod without GPUs. Pods may be equal.
    """

    cpu: int
    memory: int
    gpus: int
    milli: int
    models: frozenset[str] = frozenset()

    @property
    def is_share(self) -> bool:
        """Whether it asks for a part of one GPU."""
        return 0 < self.milli < WHOLE

    @property
    def demand(self) -> int:
        """Thousandths of GPUs in all."""
        return self.gpus * self.milli


def arrivals(pods: Sequence[TracePod], *, seed: int) -> Iterator[TracePod]:
    """Every pod once, shuffled, and from then on pods drawn at random, for ever.

    As in the evaluation of FGD (USENIX ATC 2023): nobody leaves, and nobody who was refused comes again.
    """
    random = Random(seed)
    order = [*pods]
    random.shuffle(order)
    yield from order
    while True:
        yield random.choice(order)
