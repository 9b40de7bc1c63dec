"""`arbiter simulate`: how well placements pack the pods of a trace."""

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from arbiter.simulation import Rule, TraceNode
from arbiter_cli.arguments import Output, add_output, one_of
from arbiter_cli.errors import InputError
from arbiter_cli.simulating import Result, Trace, simulated
from arbiter_cli.traces import NODE_LIST, node_list_beside, read_nodes, read_pods

_MOST_SEEDS = 1000
_FURTHEST = 1000
_MOST_JOBS = 256
_LONGEST = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `arbiter simulate` takes."""
    parser.epilog = (
        "Traces have the columns of Alibaba's cluster-trace-gpu-v2023. Pods arrive one by one, shuffled, and nobody "
        "leaves; a pod without room is refused."
    )
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE", help="pods: a .csv or .csv.gz file")
    parser.add_argument(
        "--nodes", type=Path, metavar="FILE", help=f"the nodes (default: {NODE_LIST} beside the first trace)"
    )
    parser.add_argument(
        "--placement",
        type=_rules,
        default=tuple(Rule),
        metavar="NAMES",
        help=f"which to compare, of {','.join(Rule)} (default: all)",
    )
    parser.add_argument(
        "--elastic",
        type=_floor,
        default=Fraction(1),
        metavar="FLOOR",
        help="the part of their size to which pods with a part of a GPU may shrink, under our placement (default: 1)",
    )
    parser.add_argument("--seeds", type=_count(_MOST_SEEDS), default=1, metavar="N", help="how often (default: 1)")
    parser.add_argument(
        "--until",
        type=_count(_FURTHEST),
        default=100,
        metavar="PERCENT",
        help="end when what pods asked for has reached this part of all GPUs (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs",
        type=_count(_MOST_JOBS),
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes at a time (default: one for each core)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw what was allocated while pods arrived")
    add_output(parser)


def _rules(text: str) -> tuple[Rule, ...]:
    return tuple(dict.fromkeys(one_of(Rule)(name) for name in text.split(",")))


def _floor(text: str) -> Fraction:
    try:
        floor = Fraction(0 if "e" in text.lower() else text)  # an exponent may have no end
    except (ValueError, ZeroDivisionError):
        floor = Fraction(0)
    if not 0 < floor <= 1:
        raise argparse.ArgumentTypeError(f'"{text}" is no part of a size; write a number above 0 up to 1, such as 0.6')
    if 1000 % floor.denominator:
        raise argparse.ArgumentTypeError(f'"{text}" is finer than thousandths; write three decimals, such as 0.333')
    return floor


def _count(most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < _LONGEST and 1 <= int(text) <= most):
            raise argparse.ArgumentTypeError(f'"{text}" is no whole number from 1 to {most}')
        return int(text)

    return count


def run(arguments: argparse.Namespace) -> int:
    """Prints what was allocated; 0.

    Raises:
        InputError: a trace cannot be read, nobody in it needs GPUs, or there is nothing to draw with.
    """
    draw = _drawing(arguments.plot)
    nodes = read_nodes(arguments.nodes or node_list_beside(arguments.traces[0]))
    traces = [Trace(name=_name(path), pods=read_pods(path)) for path in arguments.traces]
    if len({trace.name for trace in traces}) < len(traces):
        raise InputError(f"traces need different names, and there is {_twice(traces)} twice; rename one.")
    results = simulated(
        traces,
        nodes,
        arguments.placement,
        seeds=arguments.seeds,
        until=arguments.until,
        floor=arguments.elastic,
        jobs=arguments.jobs,
    )
    draw(results)
    about = _about(nodes, seeds=arguments.seeds, until=arguments.until)
    print(json.dumps(as_json(results), indent=2) if arguments.output is Output.JSON else as_table(results, about))
    return 0


def _drawing(plot: Path | None) -> Callable[[Sequence[Result]], None]:
    """Draws results to a file, if there is to be one; made before anything is simulated, so that it fails early."""
    if plot is None:
        return lambda _: None
    if plot.suffix != ".svg" or not plot.parent.is_dir():
        raise InputError(
            f"{plot} is no place for a drawing; write a name that ends in .svg, in a folder that is there."
        )
    try:
        from arbiter_cli.plots import draw  # noqa: PLC0415 - needs a package that is not always there
    except ImportError as error:
        raise InputError("matplotlib draws --plot and is not installed; run pip install 'arbiter[plot]'.") from error
    return lambda results: draw(results, plot)


def _twice(traces: Sequence[Trace]) -> str:
    return next(name for name, times in Counter(trace.name for trace in traces).items() if times > 1)


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")


def _about(nodes: Sequence[TraceNode], *, seeds: int, until: int) -> str:
    times = "one seed" if seeds == 1 else f"mean and standard deviation of {seeds} seeds"
    return (
        f"Percent of {sum(node.gpus for node in nodes)} GPUs on {len(nodes)} nodes when what pods asked for reached "
        f"{until} percent; {times}."
    )


def as_json(results: Iterable[Result]) -> dict[str, Any]:
    """The shape of `-o json`: shares in percent of all GPUs, quality 0 to 1, the mean and each seed's own."""
    return {
        "results": [
            {
                "trace": result.trace,
                "placement": result.rule,
                "allocatedPercent": result.allocated.mean,
                "allocatedDeviation": result.allocated.deviation,
                "admittedPercent": result.admitted.mean,
                "meanQuality": result.quality.mean,
                "decisionsPerSecond": result.speed.mean,
                "seeds": [
                    {
                        "seed": seed,
                        "allocatedPercent": outcome.end.allocated,
                        "admittedPercent": outcome.end.admitted,
                        "meanQuality": outcome.quality,
                        "placed": outcome.placed,
                        "rejected": outcome.rejected,
                    }
                    for seed, outcome in result.outcomes.items()
                ],
            }
            for result in results
        ]
    }


def as_table(results: Iterable[Result], about: str) -> str:
    """One line for each trace and placement, and what the figures are."""
    head = ("TRACE", "PLACEMENT", "ALLOCATED", "ADMITTED", "QUALITY", "REJECTED", "DECISIONS/S")
    rows = [head, *map(_row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, about])


def _row(result: Result) -> tuple[str, ...]:
    several = len(result.outcomes) > 1
    return (
        result.trace,
        result.rule.value,
        f"{result.allocated.mean:.2f}" + (f" ± {result.allocated.deviation:.2f}" if several else ""),
        f"{result.admitted.mean:.2f}",
        f"{result.quality.mean:.3f}",
        f"{result.rejected.mean:.0f}",
        f"{result.speed.mean:.0f}",
    )
