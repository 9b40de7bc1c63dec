"""How much of a node's idle memory those who are to be expected cannot use: what the packing of newcomers keeps low.

Half of the measure is the fragmentation of Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads
with Fragmentation Gradient Descent" (USENIX ATC 2023): memory where the next of a kind cannot go at all. The other
half looks further: what is left over once a node is filled with one kind. Imports the standard library only.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import TypeVar

from arbiter.placement.load import GpuLoad, Kind, NodeLoad, Wish

STEPS = 25
"""Differences are told apart in steps of this part of a GPU. Nodes within a step are taken in one stable order, which
fills them one after another; finer differences spread newcomers over all of them."""

REMEMBERED = 1 << 16
"""Answers that are kept at most, of each of two kinds."""

PARTS = 1 << 12
"""Parts of answers that are kept at most, of each of two kinds: some kB each."""

_Key = TypeVar("_Key", bound=Hashable)
_Answer = TypeVar("_Answer")
_Reach = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """Everybody with one floor on one model of GPU, by CPU: weights up to each, and weights per CPU up to each."""

    floor: int
    gpus: int
    weight: float
    cpus: tuple[int, ...]
    weights: tuple[float, ...]
    rates: tuple[float, ...]

    @classmethod
    def of(cls, floor: int, gpus: int, by_cpu: Mapping[int, float]) -> "_Row":
        """The weights of one floor and number of GPUs."""
        ascending = sorted(by_cpu.items())
        return cls(
            floor=floor,
            gpus=gpus,
            weight=sum(weight for _, weight in ascending),
            cpus=tuple(cpu for cpu, _ in ascending),
            weights=tuple(accumulate((weight for _, weight in ascending), initial=0.0)),
            rates=tuple(accumulate((weight / max(1, cpu) for cpu, weight in ascending), initial=0.0)),
        )

    def reach(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """For how many pods there is memory, and on GPUs with how many bytes. `sizes`: idle bytes of one, how many."""
        pods = gpus = reached = 0
        for size, times in sizes:
            if size >= self.floor:
                pods += size // self.floor * times
                gpus += times
                reached += size * times
        return pods if self.gpus == 1 else gpus // self.gpus, reached

    def usable(self, pods: int, reached: int, cpu: int | None) -> float:
        """Twice the bytes that they can use where there is memory for `pods` of them on GPUs with `reached` bytes.

        Where CPU does not suffice for that many of a kind it counts in parts.
        """
        if not pods:
            return 0.0
        if cpu is None:
            return self.weight * (reached + pods * self.floor * self.gpus)
        return self.startable(cpu) * reached + self.filled(pods, cpu)

    def startable(self, cpu: int) -> float:
        """The weight of those who have CPU enough for one of them."""
        return self.weights[bisect_right(self.cpus, cpu)]

    def filled(self, pods: int, cpu: int) -> float:
        """Bytes that they have once the node is filled with them."""
        if cpu >= pods * self.cpus[-1]:
            return self.weights[-1] * pods * self.floor * self.gpus
        enough = bisect_right(self.cpus, cpu / pods)
        filling = self.weights[enough] * pods + cpu * (self.rates[-1] - self.rates[enough])
        return filling * self.floor * self.gpus


@dataclass(frozen=True, slots=True)
class _Rows:
    """Those for whom one model of GPU will do, ascending in floor: all, those with one GPU, those with several."""

    everybody: tuple[_Row, ...]
    narrow: tuple[_Row, ...]
    wide: tuple[_Row, ...]


class Mix:
    """The kinds that are to be expected, each with a weight; they add up to 1.

    A kind weighs as much as it is frequent, and the more the fewer GPUs would do for it.
    """

    def __init__(self, weights: Mapping[Kind, float], *, step: int) -> None:
        self._weights = weights
        self._step = step
        self.by_gpu = all(kind.gpus == 1 for kind in weights)
        """Whether, where CPU is not known, a GPU's worsening depends on no other GPU."""
        self._rows: dict[str, _Rows] = {}
        self._unusable_by: dict[tuple[str, int | None, tuple[int, ...]], float] = {}
        self._taken: dict[tuple[str, int, int], float] = {}
        self._reach: dict[tuple[str, tuple[int, ...]], _Reach] = {}
        self._startable_by: dict[tuple[str, int], tuple[float, ...]] = {}

    @classmethod
    def of(cls, shares: Mapping[Kind, float], nodes: Iterable[NodeLoad]) -> "Mix | None":
        """Of the kinds that come, by their shares; None where no GPU would do for any of them."""
        shapes = Counter((node.room.model, tuple([gpu.usable for gpu in node.gpus])) for node in nodes)
        gpus = sum(len(sizes) * times for (_, sizes), times in shapes.items())
        weights: dict[Kind, float] = {}
        for kind, share in shares.items():
            would_do = sum(
                len(sizes) * times
                for (model, sizes), times in shapes.items()
                if (not kind.models or model in kind.models) and sum(size >= kind.floor for size in sizes) >= kind.gpus
            )
            if would_do and kind.floor:
                weights[kind] = share * gpus / would_do
        whole = sum(weights.values())
        if not whole:
            return None
        usable = sum(sum(sizes) * times for (_, sizes), times in shapes.items())
        return cls({kind: weight / whole for kind, weight in weights.items()}, step=max(1, usable // gpus // STEPS))

    def worsening(self, node: NodeLoad, group: tuple[GpuLoad, ...], wish: Wish, *, cpu: int) -> int:
        """How much more becomes unusable, in whole steps, once a newcomer has these GPUs and `cpu` of the node."""
        there = node.room.idle
        if there is None and len(group) == 1:
            return ceil(self._worsening_of_one(node, group[0].idle, wish) / self._step)
        left = [*node.idle]
        for gpu in group:
            left.remove(gpu.idle)
            left.append(max(0, gpu.idle - wish.full))
        model, now = node.room.model, None if there is None else there.cpu
        after = self._unusable(model, None if now is None else now - cpu, tuple(sorted(left)))
        return ceil((after - self._unusable(model, now, node.idle)) / self._step)

    def _worsening_of_one(self, node: NodeLoad, idle: int, wish: Wish) -> float:
        """The same in bytes where CPU is not known: then GPUs do not depend on each other, but for the wide rows."""
        model, left = node.room.model, max(0, idle - wish.full)
        key = (model, idle, left)
        worse = self._taken.get(key)
        if worse is None:
            worse = left - idle + (self._usable_of_one(model, idle) - self._usable_of_one(model, left)) / 2
            _remember(self._taken, key, worse, at_most=REMEMBERED)
        for row in self._rows_on(model).wide:
            if row.floor > idle:
                break
            first = bisect_left(node.idle, row.floor)
            gpus, reached = len(node.idle) - first, sum(node.idle[first:])
            stays = left >= row.floor
            before = row.usable(gpus // row.gpus, reached, None)
            after = row.usable((gpus - (not stays)) // row.gpus, reached - idle + left * stays, None)
            worse += (before - after) / 2
        return worse

    def _usable_of_one(self, model: str, idle: int) -> float:
        rows = self._rows_on(model).narrow
        return sum([row.usable(idle // row.floor, idle, None) for row in rows if row.floor <= idle])

    def _unusable(self, model: str, cpu: int | None, idle: tuple[int, ...]) -> float:
        """Bytes of `idle` (by GPU, ascending) that, in the mean, those who are expected cannot use beside this CPU."""
        key = (model, cpu, idle)
        known = self._unusable_by.get(key)
        if known is None:
            known = self._measure(model, cpu, idle)
            _remember(self._unusable_by, key, known, at_most=REMEMBERED)
        return known

    def _measure(self, model: str, cpu: int | None, idle: tuple[int, ...]) -> float:
        usable, reach = 0.0, self._reach_of(model, idle)
        if cpu is None:
            for row, (pods, reached) in zip(self._rows_on(model).everybody, reach, strict=False):
                usable += row.usable(pods, reached, None)
        else:
            rows = self._rows_on(model).everybody
            for row, startable, (pods, reached) in zip(rows, self._startable(model, cpu), reach, strict=False):
                if pods:
                    usable += startable * reached + row.filled(pods, cpu)
        return sum(idle) - usable / 2

    def _startable(self, model: str, cpu: int) -> tuple[float, ...]:
        """Of all rows the weight of those who can start beside this CPU."""
        known = self._startable_by.get((model, cpu))
        if known is None:
            known = tuple([row.startable(cpu) for row in self._rows_on(model).everybody])
            _remember(self._startable_by, (model, cpu), known, at_most=PARTS)
        return known

    def _reach_of(self, model: str, idle: tuple[int, ...]) -> _Reach:
        """Of the rows with a floor that fits, how many pods there is memory for, on GPUs with how many bytes."""
        known = self._reach.get((model, idle))
        if known is None:
            sizes = [(size, idle.count(size)) for size in {*idle} if size]
            largest = idle[-1] if idle else 0
            rows = [row for row in self._rows_on(model).everybody if row.floor <= largest]
            known = tuple([row.reach(sizes) for row in rows])
            _remember(self._reach, (model, idle), known, at_most=PARTS)
        return known

    def _rows_on(self, model: str) -> _Rows:
        rows = self._rows.get(model)
        if rows is None:
            by_floor: defaultdict[tuple[int, int], defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
            for kind, weight in self._weights.items():
                if not kind.models or model in kind.models:
                    by_floor[kind.floor, kind.gpus][kind.cpu] += weight
            everybody = tuple(_Row.of(floor, gpus, by_cpu) for (floor, gpus), by_cpu in sorted(by_floor.items()))
            rows = self._rows[model] = _Rows(
                everybody=everybody,
                narrow=tuple(row for row in everybody if row.gpus == 1),
                wide=tuple(row for row in everybody if row.gpus > 1),
            )
        return rows


def _remember(known: dict[_Key, _Answer], key: _Key, answer: _Answer, *, at_most: int) -> None:
    if len(known) >= at_most:
        known.clear()
    known[key] = answer
