"""Places a trace pod by pod and says how much of the cluster was allocated. Imports the standard library only."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from time import perf_counter
from typing import Protocol

from arbiter.simulation.baselines import BestFit, Fgd, RandomFit
from arbiter.simulation.ours import Ours
from arbiter.simulation.trace import WHOLE, TraceNode, TracePod, arrivals


class Rule(StrEnum):
    """Who places the pods: Arbiter's own placement, or one to compare it with."""

    OURS = "ours"
    FGD = "fgd"
    BEST_FIT = "best-fit"
    RANDOM = "random"


class Placer(Protocol):
    """A way to place pods, with the cluster that it fills."""

    def place(self, pod: TracePod) -> bool:
        """Takes room for one pod; False where there is none."""

    def used(self) -> int:
        """Thousandths of GPUs in use."""

    def quality(self) -> float:
        """Mean quality of the pods with GPUs; 1 where there are none."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The cluster at one moment, each in percent of all GPUs.

    `arrived` is what all pods asked for so far, `admitted` what those placed asked for, `allocated` what they have:
    less than admitted where pods shrank.
    """

    arrived: float
    admitted: float
    allocated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the pods: a sample at each full percent that arrived, mean quality, seconds of deciding."""

    samples: tuple[Sample, ...]
    quality: float
    placed: int
    rejected: int
    seconds: float

    @property
    def end(self) -> Sample:
        """When as much had arrived as was asked for."""
        return self.samples[-1]


class EmptyTraceError(ValueError):
    """Nodes or pods without GPUs, in one sentence."""


def simulate(
    nodes: Sequence[TraceNode],
    pods: Sequence[TracePod],
    rule: Rule,
    *,
    seed: int,
    until: int = 100,
    floor: Fraction = Fraction(1),
) -> Outcome:
    """Lets pods arrive until their demand first reaches `until` percent of all GPUs.

    Under `Rule.OURS` pods with a part of a GPU may shrink to `floor` (0..1) of it; the others know full sizes only.

    Raises:
        EmptyTraceError: no node has GPUs, or no pod asks for any.
    """
    total = sum(node.gpus for node in nodes) * WHOLE
    if not total:
        raise EmptyTraceError("no node has a GPU")
    if not any(pod.demand for pod in pods):
        raise EmptyTraceError("no pod asks for a GPU")
    placer = _placer(rule, nodes, pods, seed=seed, floor=floor)
    stream = arrivals(pods, seed=seed)
    come = admitted = placed = rejected = 0
    seconds = 0.0
    samples: list[Sample] = []
    with _uncollected():
        while 100 * come < until * total:
            pod = next(stream)
            started = perf_counter()
            found = placer.place(pod)
            seconds += perf_counter() - started
            come += pod.demand
            admitted += pod.demand * found
            placed, rejected = placed + found, rejected + (not found)
            if 100 * come >= (len(samples) + 1) * total:
                now = Sample(100 * come / total, 100 * admitted / total, 100 * placer.used() / total)
                samples += [now] * (100 * come // total - len(samples))
    return Outcome(samples=tuple(samples), quality=placer.quality(), placed=placed, rejected=rejected, seconds=seconds)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's search for cycles: placing makes none, and every look through all nodes takes a while."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _placer(rule: Rule, nodes: Sequence[TraceNode], pods: Sequence[TracePod], *, seed: int, floor: Fraction) -> Placer:
    match rule:
        case Rule.OURS:
            return Ours(nodes, floor=floor)
        case Rule.FGD:
            return Fgd(nodes, expected=pods)
        case Rule.BEST_FIT:
            return BestFit(nodes)
        case Rule.RANDOM:
            return RandomFit(nodes, seed=seed)
