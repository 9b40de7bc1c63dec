"""What a dashboard is made of, and the JSON that Grafana loads. Imports the standard library only."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

COLUMNS = 24
"""Of Grafana's grid."""

POD = "{{namespace}}/{{pod}}"
"""How series of pods are called."""

MEMORY_STATES = "Floors are promised, granted is told to containers, held they may still hold, used is measured."

_SCHEMA = 39
"""Version of Grafana's dashboard JSON: that of Grafana 11, which newer ones migrate."""

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


class Kind(StrEnum):
    """How a panel shows its series, by Grafana's names."""

    STAT = "stat"
    LINES = "timeseries"


class Unit(StrEnum):
    """What numbers mean, by Grafana's names."""

    COUNT = "short"
    BYTES = "bytes"
    SHARE = "percentunit"
    SECONDS = "s"
    PER_SECOND = "ops"
    QUALITY = "none"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and how its series are called: text with ``{{label}}``."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture. `id` stays the same for good, since links and annotations name it; `stacked` fills what is below.

    `empty` is shown where there is no series, and says what that means; without it there always is one.
    """

    id: int
    title: str
    about: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES
    unit: Unit = Unit.COUNT
    width: int = 12
    height: int = 8
    stacked: bool = False
    least: float = 0
    most: float | None = None
    empty: str = ""


def stat(number: int, title: str, about: str, *queries: Query, unit: Unit = Unit.COUNT, empty: str = "") -> Panel:
    """A panel of one figure for each query; six of them fill a line."""
    return Panel(
        id=number, title=title, about=about, queries=queries, kind=Kind.STAT, unit=unit, width=4, height=4, empty=empty
    )


@dataclass(frozen=True, slots=True)
class Row:
    """Panels below a heading, from the left, in as many lines as they need."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """What the reader chooses among: the values of a label of a metric; several at once, or all."""

    name: str
    title: str
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One view. `uid` stays the same for good: it is in links."""

    uid: str
    title: str
    about: str
    variables: tuple[Variable, ...] = ()
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a panel, or a row's heading, lies in the grid."""

    what: Panel | Row
    x: int
    y: int


def layout(dashboard: Dashboard) -> Iterator[Placed]:
    """Everything from the top; each row's heading takes one line."""
    y = 0
    for row in dashboard.rows:
        yield Placed(row, 0, y)
        y, x, lowest = y + 1, 0, y + 1
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, lowest
            yield Placed(panel, x, y)
            x, lowest = x + panel.width, max(lowest, y + panel.height)
        y = lowest


def panels(dashboard: Dashboard) -> list[Panel]:
    """Every panel, from the top."""
    return [panel for row in dashboard.rows for panel in row.panels]


def as_json(dashboard: Dashboard) -> Json:
    """What Grafana loads."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["arbiter", "gpu"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [
            {
                "type": "dashboards",
                "title": "Arbiter",
                "tags": ["arbiter"],
                "asDropdown": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": [_datasource_variable(), *map(_variable, dashboard.variables)]},
        "panels": [_heading(one, number) for number, one in enumerate(layout(dashboard))],
    }


def _datasource_variable() -> Json:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _variable(variable: Variable) -> Json:
    query = f"label_values({variable.metric}, {variable.name})"
    return {
        "name": variable.name,
        "label": variable.title,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": query, "refId": variable.name},
        "definition": query,
        "refresh": 2,  # when the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _heading(placed: Placed, number: int) -> Json:
    if isinstance(placed.what, Panel):
        return _panel(placed.what, placed)
    grid = {"x": placed.x, "y": placed.y, "w": COLUMNS, "h": 1}
    # Nothing links to a heading; its id only has to differ from every panel's.
    return {"id": 1000 + number, "type": "row", "title": placed.what.title, "collapsed": False, "gridPos": grid}


def _panel(panel: Panel, placed: Placed) -> Json:
    defaults: Json = {"unit": panel.unit, "min": panel.least, "custom": _custom(panel)}
    if panel.unit is Unit.QUALITY:
        defaults["decimals"] = 3
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.empty:
        defaults["noValue"] = panel.empty
    return {
        "id": panel.id,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "gridPos": {"x": placed.x, "y": placed.y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "instant": panel.kind is Kind.STAT,
                "range": panel.kind is Kind.LINES,
            }
            for number, query in enumerate(panel.queries)
        ],
    }


def _custom(panel: Panel) -> Json:
    if panel.kind is Kind.STAT:
        return {}
    stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
    return {"fillOpacity": 30 if panel.stacked else 0, "stacking": stacking, "showPoints": "never"}


def _options(panel: Panel) -> Json:
    if panel.kind is Kind.STAT:
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "textMode": "auto"}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
