"""The chart's dashboards on a real Prometheus: every query finds what it names in what real processes tell."""

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from arbiter_extender.decision import Reason
from arbiter_kube.api.gpuallocation import Phase
from arbiter_kube.api.gpunode import GrantState
from arbiter_operator.evictions import Cause
from hack.cluster.paths import REPOSITORY
from hack.dashboards.__main__ import DIRECTORY, text
from hack.dashboards.model import COLUMNS, Dashboard, layout, panels
from hack.dashboards.prometheus import Json
from hack.dashboards.views import DASHBOARDS
from tests.component.monitoring.conftest import Recording

PANELS = {f"{name}: {panel.title}": (one, panel) for name, one in DASHBOARDS.items() for panel in panels(one)}

SILENT = {
    "node: Waiting for their floor": "nobody waits on a node whose containers all run",
}
"""Panels without a series while all is well, and why."""

TARGET_LABELS = {"job", "instance", "namespace", "pod", "container", "endpoint"}
"""What Prometheus' operator adds to whatever a PodMonitor has scraped."""

ENUMERATIONS = {*GrantState, *Cause, *(reason.name for reason in Reason), *get_args(Phase)}
"""Values of labels that are not seen every day."""


def runnable(expr: str, dashboard: Dashboard) -> str:
    """The expression as Grafana would send it, with everything chosen."""
    for variable in dashboard.variables:
        expr = expr.replace(f"${variable.name}", ".*")
    return expr.replace("$__rate_interval", "1m")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_files_are_what_the_descriptions_make(name: str) -> None:
    assert (DIRECTORY / f"{name}.json").read_text() == text(DASHBOARDS[name]), "run: make dashboards"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_pictures_in_the_docs_show_the_panels_that_there_are(name: str) -> None:
    assert f"(dashboard-{name}.svg)" in (REPOSITORY / "docs" / "monitoring.md").read_text()
    picture = html.unescape((REPOSITORY / "docs" / f"dashboard-{name}.svg").read_text())
    titles = [panel.title for panel in panels(DASHBOARDS[name])]
    assert [title for title in titles if f">{title}<" not in picture] == [], "run: make dashboard-pictures"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_their_own_ids_and_places(name: str) -> None:
    made = json.loads(text(DASHBOARDS[name]))
    ids = [panel["id"] for panel in made["panels"]]
    assert len(ids) == len({*ids})
    taken = [
        (x, y)
        for panel in made["panels"]
        for grid in [panel["gridPos"]]
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(taken) == len({*taken})
    assert max(x for x, _ in taken) < COLUMNS
    assert len([*layout(DASHBOARDS[name])]) == len(ids)


@pytest.mark.parametrize("case", PANELS)
def test_every_query_of_a_panel_finds_something(case: str, recording: Recording) -> None:
    dashboard, panel = PANELS[case]
    found = {
        query.expr: recording.prometheus.at(runnable(query.expr, dashboard), recording.at) for query in panel.queries
    }
    empty = [expr for expr, series in found.items() if not series]
    assert bool(empty) == (case in SILENT), empty


@pytest.mark.parametrize("case", PANELS)
def test_legends_name_labels_that_the_series_have(case: str, recording: Recording) -> None:
    dashboard, panel = PANELS[case]
    for query in panel.queries:
        for series in recording.prometheus.at(runnable(query.expr, dashboard), recording.at):
            assert {*re.findall(r"\{\{(\w+)\}\}", query.legend)} <= series.labels.keys()


@pytest.mark.parametrize("case", PANELS)
def test_panels_that_may_be_empty_say_what_that_means(case: str) -> None:
    _, panel = PANELS[case]
    assert panel.about.endswith(".")
    assert case not in SILENT or panel.empty


@dataclass(frozen=True)
class Metric:
    """The labels of a metric's samples, and the values that were seen."""

    labels: Mapping[str, frozenset[str]]


@pytest.fixture(scope="module")
def metrics(recording: Recording) -> Mapping[str, Metric]:
    """Every sample's name that the processes tell; the labels of one without samples are those that the docs tell."""
    seen: dict[str, dict[str, set[str]]] = {}
    for exposition in recording.expositions:
        for family in text_string_to_metric_families(exposition):
            if not family.samples:
                seen[family.name] = {label: set() for label in described()[family.name]}
            for sample in family.samples:
                labels = seen.setdefault(sample.name, {})
                for key, value in sample.labels.items():
                    labels.setdefault(key, set()).add(value)
    return {name: Metric({key: frozenset(values) for key, values in labels.items()}) for name, labels in seen.items()}


def nodes(tree: Json) -> Iterator[Json]:
    """Every node of a syntax tree."""
    if isinstance(tree, dict):
        if "type" in tree:
            yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


def unknown(tree: Json, metrics: Mapping[str, Metric]) -> list[str]:
    """Names in an expression that no process tells: of metrics, of labels, and of labels' values."""
    wrong = []
    labels: set[str] = {"le", *TARGET_LABELS}
    everything = [*nodes(tree)]
    for node in everything:
        if node["type"] not in ("vectorSelector", "matrixSelector"):
            continue
        metric = metrics.get(node["name"])
        if metric is None:
            wrong.append(node["name"])
            continue
        labels |= metric.labels.keys()
        for matcher in node["matchers"]:
            key, value = matcher["name"], matcher["value"]
            if key == "__name__":
                continue
            if key not in metric.labels:
                wrong.append(f"{node['name']}{{{key}}}")
            elif matcher["type"] == "=" and value not in metric.labels[key] | ENUMERATIONS:
                wrong.append(f"{node['name']}{{{key}={value}}}")
    for node in everything:
        matching = node.get("matching") or {}
        used = [*(node.get("grouping") or ()), *(matching.get("labels") or ()), *(matching.get("include") or ())]
        wrong += [label for label in used if label not in labels]
    return wrong


@pytest.mark.parametrize("case", PANELS)
def test_dashboards_name_nothing_that_no_process_tells(
    case: str, recording: Recording, metrics: Mapping[str, Metric]
) -> None:
    dashboard, panel = PANELS[case]
    trees = [recording.prometheus.parsed(runnable(query.expr, dashboard)) for query in panel.queries]
    assert [unknown(tree, metrics) for tree in trees] == [[] for _ in panel.queries]


def test_alerts_name_nothing_that_no_process_tells_and_are_evaluated(
    recording: Recording, metrics: Mapping[str, Metric]
) -> None:
    assert recording.rules
    for rule in recording.rules:
        assert unknown(recording.prometheus.parsed(rule["query"]), metrics) == [], rule["name"]
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]


def test_what_goes_wrong_here_is_told_with_the_pods_name(recording: Recording) -> None:
    told = {rule["name"]: [alert["labels"] for alert in rule["alerts"]] for rule in recording.rules}
    (offender,) = told["ArbiterMeasuredAboveGrant"]
    assert (offender["namespace"], offender["pod"], offender["node"]) == ("team-b", "posters", "gpu-1")
    assert {name for name, alerts in told.items() if alerts} == {"ArbiterMeasuredAboveGrant"}


def test_variables_offer_what_there_is(metrics: Mapping[str, Metric]) -> None:
    offered = {
        variable.name: metrics[variable.metric].labels[variable.name]
        for dashboard in DASHBOARDS.values()
        for variable in dashboard.variables
    }
    assert offered == {"node": {"gpu-1"}, "namespace": {"team-a", "team-b"}}


def described() -> dict[str, set[str]]:
    """Every metric of the reference with its labels."""
    page = (REPOSITORY / "docs" / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(arbiter_\w+)` \| \w+ \| ([^|]*) \|", page, re.MULTILINE)
    return {name: {*re.findall(r"`(\w+)`", labels)} for name, labels in rows}


def test_the_processes_tell_what_the_reference_lists_and_nothing_else(recording: Recording) -> None:
    told: dict[str, set[str]] = {}
    for exposition in recording.expositions:
        for family in text_string_to_metric_families(exposition):
            if family.name.startswith("arbiter_") and not family.name.endswith("_created"):
                name = f"{family.name}_total" if family.type == "counter" else family.name
                # One that has no series until something is wrong tells its labels nowhere.
                labels = {label for sample in family.samples for label in sample.labels} or described()[name]
                told.setdefault(name, set()).update(labels - {"le"})
    assert told == described()


def test_panel_titles_are_unique_in_their_dashboard() -> None:
    for dashboard in DASHBOARDS.values():
        titles: list[str] = [panel.title for panel in panels(dashboard)]
        assert len(titles) == len({*titles})
