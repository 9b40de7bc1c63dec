"""Draws a dashboard without Grafana: the same queries, answered by a Prometheus, in the same grid."""

import math
import re
from pathlib import Path

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from hack.dashboards.model import COLUMNS, Dashboard, Kind, Panel, Placed, Row, Unit, layout
from hack.dashboards.prometheus import Prometheus, Series

_COLUMN, _LINE = 0.62, 0.42
"""Inches of one cell of the grid."""

_INK, _PALE, _PAPER, _GROUND = "#22252b", "#6e737d", "#ffffff", "#f1f2f5"
_COLORS = ("#3274d9", "#e0752d", "#299c46", "#a352cc", "#c4162a", "#8f6b00", "#008c8c", "#7a7a7a")

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")


def draw(dashboard: Dashboard, prometheus: Prometheus, *, start: float, end: float, path: Path) -> None:
    """Writes an SVG of the time from `start` to `end` (seconds since the epoch), every variable set to all.

    Raises:
        PrometheusError: Prometheus does not answer, or a query is wrong.
    """
    # Text stays text: smaller, and can be searched.
    rcParams["svg.fonttype"], rcParams["svg.hashsalt"] = "none", dashboard.uid
    rcParams["font.family"] = "DejaVu Sans"
    places = [*layout(dashboard)]
    lines = 2 + max(place.y + (place.what.height if isinstance(place.what, Panel) else 1) for place in places)
    figure = Figure(figsize=(COLUMNS * _COLUMN, lines * _LINE), facecolor=_GROUND)
    figure.text(0.008, 1 - 1.1 / lines, dashboard.title, size=15, color=_INK, weight="bold", va="center")
    for place in places:
        if isinstance(place.what, Row):
            figure.text(0.008, 1 - (place.y + 2.6) / lines, place.what.title, size=11, color=_INK, va="center")
        else:
            source = _Source(dashboard, prometheus, start, end)
            _Frame(figure, place.what, place, lines=lines).fill(source)
    figure.savefig(path, format="svg", metadata={"Date": None})


class _Source:
    """The answers to a dashboard's queries over one time."""

    def __init__(self, dashboard: Dashboard, prometheus: Prometheus, start: float, end: float) -> None:
        self._variables = {f"${variable.name}": ".*" for variable in dashboard.variables}
        self._prometheus = prometheus
        self.start, self.end = start, end

    def lines(self, panel: Panel) -> list[tuple[str, Series]]:
        step = max(1.0, (self.end - self.start) / 100)
        return [
            (_called(legend, series), series)
            for expr, legend in self._queries(panel)
            for series in self._prometheus.between(expr, self.start, self.end, step=step)
        ]

    def figures(self, panel: Panel) -> list[tuple[str, float]]:
        return [
            (_called(legend, series), series.values[-1][1])
            for expr, legend in self._queries(panel)
            for series in self._prometheus.at(expr, self.end)
        ]

    def _queries(self, panel: Panel) -> list[tuple[str, str]]:
        named = []
        for query in panel.queries:
            expr = query.expr.replace("$__rate_interval", "15s")
            for variable, value in self._variables.items():
                expr = expr.replace(variable, value)
            named.append((expr, query.legend))
        return named


class _Frame:
    """A panel's card on the picture."""

    def __init__(self, figure: Figure, panel: Panel, place: Placed, *, lines: int) -> None:
        self._figure, self._panel, self._lines = figure, panel, lines
        self._left, self._top = place.x / COLUMNS, (place.y + 2) / lines
        self._width, self._height = panel.width / COLUMNS, panel.height / lines

    def fill(self, source: _Source) -> None:
        panel = self._panel
        card = self._axes(0.003, 0.06, 0.006, 0.12)
        card.set_facecolor(_PAPER)
        card.set(xticks=[], yticks=[])
        card.spines[:].set_color("#d8dbe2")
        self._figure.text(
            self._left + 0.008, 1 - self._top - 0.55 / self._lines, panel.title, size=8.5, color=_INK, va="center"
        )
        if panel.kind is Kind.STAT:
            self._stat(source.figures(panel))
        else:
            self._chart(source.lines(panel), source)

    def _axes(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Margins: left and right as shares of the picture's width, top and bottom in lines of the grid."""
        height = self._height - (top + bottom) / self._lines
        bounds = (self._left + left, 1 - self._top - self._height + bottom / self._lines)
        return self._figure.add_axes((*bounds, self._width - left - right, height))

    def _stat(self, figures: list[tuple[str, float]]) -> None:
        middle = 1 - self._top - (self._height * 0.58)
        if not figures:
            self._say(self._panel.empty, middle)
        for number, (name, value) in enumerate(figures):
            x = self._left + self._width * (number + 0.5) / len(figures)
            size = 17 if len(figures) < 3 else 11
            self._figure.text(
                x, middle, _shown(value, self._panel.unit), size=size, color=_COLORS[0], ha="center", va="center"
            )
            if name:
                below = middle - 0.9 / self._lines
                self._figure.text(x, below, name, size=5.6, color=_PALE, ha="center", va="center")

    def _say(self, text: str, y: float) -> None:
        self._figure.text(self._left + self._width / 2, y, text, size=9, color=_PALE, ha="center", va="center")

    def _chart(self, lines: list[tuple[str, Series]], source: _Source) -> None:
        if not lines:
            self._say(self._panel.empty, 1 - self._top - self._height / 2)
            return
        panel = self._panel
        axes = self._axes(0.05, 1.1, 0.014, 1.9)
        axes.set_facecolor(_PAPER)
        below: dict[float, float] = {}
        for number, (name, series) in enumerate(lines):
            color = _COLORS[number % len(_COLORS)]
            times = [time - source.start for time, _ in series.values]
            floor = [below.get(time, 0.0) if panel.stacked else 0.0 for time, _ in series.values]
            heights = [value + base for (_, value), base in zip(series.values, floor, strict=True)]
            axes.plot(times, heights, color=color, linewidth=1.2, label=name)
            if panel.stacked:
                axes.fill_between(times, floor, heights, color=color, alpha=0.3, linewidth=0)
                below |= {time: top for (time, _), top in zip(series.values, heights, strict=True)}
        top = panel.most if panel.most is not None else max(panel.least, *axes.get_ylim(), 0.0)
        # Nothing but noughts has no scale of its own.
        is_flat = all(not value for _, series in lines for _, value in series.values)
        axes.set_ylim(panel.least, 1.0 if is_flat else top * 1.04 or 1.0)
        if panel.unit is Unit.BYTES:
            axes.yaxis.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(axes.get_ylim()[1] / 5))))
        axes.set_xlim(0, source.end - source.start)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _shown(value, panel.unit)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} s"))
        axes.tick_params(labelsize=6, colors=_PALE, length=0)
        axes.grid(color="#e8eaef", linewidth=0.6)
        axes.spines[:].set_visible(False)
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.1),
            ncols=5,
            fontsize=6,
            frameon=False,
            labelcolor=_INK,
            handlelength=1.2,
            columnspacing=1.2,
        )


def _called(legend: str, series: Series) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda label: series.labels.get(label[1], ""), legend)


def _shown(value: float, unit: Unit) -> str:
    match unit:
        case Unit.BYTES:
            power = 0
            while abs(value) >= 1024 and power < len(_BINARY) - 1:
                value, power = value / 1024, power + 1
            return f"{value:.3g} {_BINARY[power]}"
        case Unit.SHARE:
            return f"{value:.0%}"
        case Unit.SECONDS:
            return f"{value * 1000:.3g} ms" if 0 < abs(value) < 1 else f"{value:.3g} s"
        case Unit.PER_SECOND:
            return f"{value:.3g}/s"
        case Unit.QUALITY:
            return f"{value:.3f}"
        case Unit.COUNT:
            return f"{value:.3g}"
