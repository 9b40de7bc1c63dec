"""Runs simulations, several at a time, with a progress bar on a terminal. Imports the core only."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from statistics import fmean, stdev

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from arbiter.simulation import EmptyTraceError, Outcome, Rule, TraceNode, TracePod, simulate
from arbiter_cli.errors import InputError

FIRST_SEED = 42
"""As in the evaluation of FGD (USENIX ATC 2023)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Pods, and what people call them."""

    name: str
    pods: Sequence[TracePod]


@dataclass(frozen=True, slots=True)
class Statistic:
    """A figure over all seeds."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Statistic":
        """Mean and standard deviation; that of a single figure is 0."""
        return cls(fmean(figures), stdev(figures) if len(figures) > 1 else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One trace under one rule, by seed."""

    trace: str
    rule: Rule
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    @property
    def allocated(self) -> Statistic:
        """What pods had in the end, in percent of all GPUs."""
        return self._over(lambda outcome: outcome.end.allocated)

    @property
    def admitted(self) -> Statistic:
        """What those placed had asked for, in percent of all GPUs."""
        return self._over(lambda outcome: outcome.end.admitted)

    @property
    def quality(self) -> Statistic:
        """The mean quality of the pods with GPUs."""
        return self._over(lambda outcome: outcome.quality)

    @property
    def rejected(self) -> Statistic:
        """How many pods found no room."""
        return self._over(lambda outcome: outcome.rejected)

    @property
    def speed(self) -> Statistic:
        """Decisions per second."""
        return self._over(lambda outcome: (outcome.placed + outcome.rejected) / outcome.seconds)

    def _over(self, figure: Callable[[Outcome], float]) -> Statistic:
        return Statistic.of([figure(outcome) for outcome in self.outcomes.values()])


def simulated(
    traces: Sequence[Trace],
    nodes: Sequence[TraceNode],
    rules: Sequence[Rule],
    *,
    seeds: int,
    until: int,
    floor: Fraction,
    jobs: int,
) -> list[Result]:
    """Every trace under every rule with every seed, `jobs` at a time.

    Raises:
        InputError: no node has GPUs, or nobody in a trace asks for any.
    """
    results = {(trace.name, rule): Result(trace=trace.name, rule=rule) for trace in traces for rule in rules}
    numbers = range(FIRST_SEED, FIRST_SEED + seeds)
    runs = {
        (trace.name, rule, seed): partial(simulate, nodes, trace.pods, rule, seed=seed, until=until, floor=floor)
        for trace in traces
        for rule in rules
        for seed in numbers
    }
    try:
        found = dict(_with_progress(runs, jobs=min(jobs, len(runs))))
    except EmptyTraceError as error:
        raise InputError(f"there is nothing to simulate: {error}.") from error
    for trace_name, rule, seed in runs:
        results[trace_name, rule].outcomes[seed] = found[trace_name, rule, seed]
    return [*results.values()]


_Key = tuple[str, Rule, int]


def _with_progress(runs: dict[_Key, partial[Outcome]], *, jobs: int) -> Iterator[tuple[_Key, Outcome]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("simulating", total=len(runs))
        for key, outcome in _one_by_one(runs) if jobs == 1 else _side_by_side(runs, jobs=jobs):
            progress.update(task, advance=1, description=f"{key[0]}, {key[1]}")
            yield key, outcome


def _one_by_one(runs: dict[_Key, partial[Outcome]]) -> Iterator[tuple[_Key, Outcome]]:
    for key, run in runs.items():
        yield key, run()


def _side_by_side(runs: dict[_Key, partial[Outcome]], *, jobs: int) -> Iterator[tuple[_Key, Outcome]]:
    # Spawned, not forked: the progress bar has a thread. Ctrl-C ends them at once, and says nothing.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, signal.signal, (signal.SIGINT, signal.SIG_DFL)) as pool:
        futures = {pool.submit(run): key for key, run in runs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)
