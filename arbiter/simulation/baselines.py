"""Placements to compare with: best-fit, random, and FGD as published. Imports the standard library only.

FGD: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent",
USENIX ATC 2023; the details are those of its simulator (hkust-adsl/kubernetes-scheduler-simulator).
"""

import math
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from arbiter.simulation.trace import WHOLE, TraceNode, TracePod

_CPU_OF_LARGEST, _GPU_OF_LARGEST = 128_000, 8 * WHOLE
"""What best-fit measures CPU and GPUs by: 128 cores and 8 GPUs."""

_TYPICAL = 0.95


@dataclass(slots=True, kw_only=True)
class _State:
    """What is left of a node: CPU, memory, thousandths of each GPU."""

    node: TraceNode
    cpu: int
    memory: int
    idle: tuple[int, ...]

    def fits(self, pod: TracePod) -> bool:
        return self.runs(pod) and pod.memory <= self.memory

    def runs(self, pod: TracePod) -> bool:
        """Whether it fits, memory aside."""
        if pod.cpu > self.cpu or (pod.models and self.node.model not in pod.models):
            return False
        return not pod.gpus or sum(size >= pod.milli for size in self.idle) >= pod.gpus

    def gpus_for(self, pod: TracePod) -> list[int]:
        """All GPUs that would do for one part, the tightest first; else the first whole ones."""
        fitting = [at for at, size in enumerate(self.idle) if size >= pod.milli]
        return sorted(fitting, key=lambda at: self.idle[at]) if pod.is_share else fitting[: pod.gpus]

    def after(self, pod: TracePod, gpu: int | None) -> "_State":
        """What would be left; `gpu` is the one for a part."""
        taken = set[int]() if not pod.gpus else {gpu} if gpu is not None else {*self.gpus_for(pod)}
        return _State(
            node=self.node,
            cpu=self.cpu - pod.cpu,
            memory=self.memory - pod.memory,
            idle=tuple([size - pod.milli if at in taken else size for at, size in enumerate(self.idle)]),
        )


class _Scored(NamedTuple):
    """How good a node is (more is better, then more `tie`), and the GPU for a pod that wants a part of one."""

    score: float
    tie: float
    gpu: int | None


class Baseline(ABC):
    """Takes the node with the best score; of equals the first by name. Nobody ever shrinks."""

    def __init__(self, nodes: Iterable[TraceNode]) -> None:
        ordered = sorted(nodes, key=lambda node: node.name)
        self._states = [
            _State(node=node, cpu=node.cpu, memory=node.memory, idle=(WHOLE,) * node.gpus) for node in ordered
        ]
        self._scores: defaultdict[TracePod, dict[int, _Scored | None]] = defaultdict(dict)
        self._used = 0

    def place(self, pod: TracePod) -> bool:
        """Takes room for one pod; False where there is none."""
        scores = self._scores[pod]
        for at, state in enumerate(self._states):
            if at not in scores:
                scores[at] = self._score(state, pod) if state.fits(pod) else None
        fitting = [(at, scored) for at in range(len(self._states)) if (scored := scores[at]) is not None]
        if not fitting:
            return False
        at, scored = self._best(fitting)
        self._states[at] = self._states[at].after(pod, scored.gpu)
        for known in self._scores.values():
            known.pop(at, None)
        self._used += pod.demand
        return True

    def used(self) -> int:
        """Thousandths of GPUs in use."""
        return self._used

    def quality(self) -> float:
        """Always 1."""
        return 1.0

    def idle(self) -> tuple[tuple[int, ...], ...]:
        """Thousandths of each GPU that are free, node by node in the order of their names."""
        return tuple(state.idle for state in self._states)

    def _best(self, fitting: Sequence[tuple[int, _Scored]]) -> tuple[int, _Scored]:
        return max(fitting, key=lambda one: (one[1].score, one[1].tie, -one[0]))

    @abstractmethod
    def _score(self, state: _State, pod: TracePod) -> _Scored:
        """Of a node where it fits."""


class RandomFit(Baseline):
    """Any node, and there the tightest GPU."""

    def __init__(self, nodes: Iterable[TraceNode], *, seed: int) -> None:
        super().__init__(nodes)
        self._random = Random(seed)

    def _score(self, state: _State, pod: TracePod) -> _Scored:
        return _Scored(0.0, 0.0, _tightest(state, pod))

    def _best(self, fitting: Sequence[tuple[int, _Scored]]) -> tuple[int, _Scored]:
        return self._random.choice(fitting)


class BestFit(Baseline):
    """The node with the least CPU and GPUs left, half by half, and there the tightest GPU."""

    def _score(self, state: _State, pod: TracePod) -> _Scored:
        gpu = _tightest(state, pod)
        return _Scored(_fullness(state.after(pod, gpu)), 0.0, gpu)


class Fgd(Baseline):
    """Where what the typical pods cannot use grows least, in whole points of a sigmoid.

    It is told all pods that will come, and finds the typical ones among them. Of nodes with equal points it takes the
    best fit: that comes nearest to the published figures (the first by name is 1.8 points below them on cpu250).
    """

    def __init__(self, nodes: Iterable[TraceNode], *, expected: Sequence[TracePod]) -> None:
        super().__init__(nodes)
        self._typical = _typical(expected)
        self._known: dict[tuple[str, int, tuple[int, ...]], float] = {}

    def _score(self, state: _State, pod: TracePod) -> _Scored:
        now = self._fragment(state)
        options: Sequence[int | None] = sorted(state.gpus_for(pod)) if pod.is_share else [None]
        scored = []
        for gpu in options:
            after = state.after(pod, gpu)
            scored.append(_Scored(_points(now - self._fragment(after)), _fullness(after), gpu))
        return max(scored, key=lambda one: one.score)

    def _fragment(self, state: _State) -> float:
        """Thousandths of idle GPUs that the typical pods, in the mean, cannot use."""
        idle = tuple(sorted(state.idle))
        key = (state.node.model, state.cpu, idle)
        if key not in self._known:
            self._known[key] = sum(share * _unusable(state, pod) for pod, share in self._typical)
        return self._known[key]


def _tightest(state: _State, pod: TracePod) -> int | None:
    return state.gpus_for(pod)[0] if pod.is_share else None


def _fullness(state: _State) -> float:
    return -(state.cpu / _CPU_OF_LARGEST + sum(state.idle) / _GPU_OF_LARGEST) / 2


def _unusable(state: _State, pod: TracePod) -> int:
    if pod.gpus and state.runs(pod):
        return sum(size for size in state.idle if size < pod.milli)
    return sum(state.idle)


def _typical(expected: Sequence[TracePod]) -> list[tuple[TracePod, float]]:
    """The most frequent pods, memory aside, until they are 95 % of all, with their shares among themselves."""
    counts = Counter(replace(pod, memory=0) for pod in expected)
    typical: list[tuple[TracePod, int]] = []
    seen = 0
    for pod, times in sorted(counts.items(), key=lambda one: (-one[1], _order(one[0]))):
        if seen >= _TYPICAL * len(expected):
            break
        seen += times
        typical.append((pod, times))
    return [(pod, times / seen) for pod, times in typical]


def _order(pod: TracePod) -> tuple[int, int, int, list[str]]:
    return pod.cpu, pod.milli, pod.gpus, sorted(pod.models)


def _points(gain: float) -> int:
    return int(100 / (1 + math.exp(-gain / 1000)))
