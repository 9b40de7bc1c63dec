"""Draws what placements allocated while pods arrived. Imports matplotlib, which the extra `plot` installs."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
from matplotlib.figure import Figure

from arbiter_cli.errors import InputError
from arbiter_cli.simulating import Result

_FROM = 0.7
"""The first part of the arrivals is left out: there everybody has room, and all placements are alike."""


def draw(results: Sequence[Result], path: Path) -> None:
    """One panel for each trace, in it one curve for each placement, the mean of all seeds; as SVG.

    Raises:
        InputError: the file cannot be written.
    """
    names = list(dict.fromkeys(result.trace for result in results))
    figure = Figure(figsize=(4.2 * len(names), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for result in results:
            if result.trace == name:
                arrived, allocated = curve(result)
                axes.plot(arrived, allocated, label=result.rule.value)
        axes.set(title=name, xlabel="asked for, % of all GPUs", ylabel="allocated, % of all GPUs")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    try:
        # The same bytes for the same figures: no date, and no random identifiers. Text stays text.
        with mpl.rc_context({"svg.hashsalt": "arbiter", "svg.fonttype": "none"}):
            figure.savefig(path, format="svg", metadata={"Date": None})
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error


def curve(result: Result) -> tuple[list[int], list[float]]:
    """Percent that had arrived, and percent that was allocated then, the mean of all seeds."""
    runs = [outcome.samples for outcome in result.outcomes.values()]
    last = min(len(samples) for samples in runs)
    arrived = list(range(max(1, int(_FROM * last)), last + 1))
    return arrived, [fmean(samples[percent - 1].allocated for samples in runs) for percent in arrived]
