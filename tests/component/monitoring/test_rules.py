"""The chart's alerts, tried by promtool: each fires on what it is for, and is silent where all is well."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster import binaries
from hack.cluster.chart import render
from hack.cluster.paths import REPOSITORY

RUNBOOKS = "https://docs.example.com/arbiter/runbooks"
VALUES = {"metrics": {"rules": {"enabled": True, "runbookUrl": RUNBOOKS}}}

NODE, POD = 'node="gpu-1"', 'node="gpu-1", namespace="team-a", pod="chat-0"'
HAND = {"node": "gpu-1", "namespace": "team-a", "pod": "chat-0"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Series with a value for each half minute in promtool's notation, and the labels with which the alert fires."""

    series: Mapping[str, str]
    at: str
    fires: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Alert:
    """What it fires on, and the nearest that it must not fire on."""

    on: Case
    quiet: Mapping[str, Case] = field(default_factory=dict)


def condition(kind: str, *, of: str = NODE) -> str:
    return f'arbiter_node_condition{{{of}, condition="{kind}"}}'


def filter_buckets(*, quick: str, slow: str) -> dict[str, str]:
    """Calls within a tenth of a second, and all."""
    name = 'arbiter_extender_request_seconds_bucket{verb="filter", pod="arbiter-scheduler-0", le='
    return {f'{name}"0.1"}}': quick, f'{name}"0.5"}}': slow, f'{name}"+Inf"}}': slow}


ALERTS: dict[str, Alert] = {
    "ArbiterNoLeader": Alert(
        on=Case(
            series={'arbiter_operator_leading{pod="a"}': "1 1 0x10", 'arbiter_operator_leading{pod="b"}': "0x12"},
            at="3m",
            fires=({},),
        ),
        quiet={
            "the other replica follows at once": Case(
                series={
                    'arbiter_operator_leading{pod="a"}': "1 1 0x10",
                    'arbiter_operator_leading{pod="b"}': "0 0 1x10",
                },
                at="5m",
            ),
            "nobody leads for half a minute": Case(
                series={'arbiter_operator_leading{pod="a"}': "1 1 0 1x10"},
                at="1m30s",
            ),
        },
    ),
    "ArbiterExtenderGone": Alert(
        on=Case(
            series={'arbiter_build_info{component="arbiter-operator", version="0.1.0"}': "1x20"},
            at="3m",
            fires=({"component": "arbiter-extender"},),
        ),
        quiet={
            "one of two replicas is left": Case(
                series={
                    'arbiter_build_info{component="arbiter-extender", pod="a"}': "1x20",
                    'arbiter_build_info{component="arbiter-extender", pod="b"}': "1 1 stale",
                },
                at="5m",
            )
        },
    ),
    "ArbiterAgentGone": Alert(
        on=Case(
            series={
                f"arbiter_node_allocatable_bytes{{{NODE}}}": "12884901888 0x20",
                condition("Ready"): "1 stale",
                condition("Ready", of='node="gpu-2"'): "0x20",
            },
            at="4m",
            fires=({"node": "gpu-1"},),
        ),
        quiet={
            "the agent is there and says why it withholds them": Case(
                series={f"arbiter_node_allocatable_bytes{{{NODE}}}": "0x20", condition("Ready"): "0x20"}, at="5m"
            ),
            "the agent is restarted": Case(
                series={
                    f"arbiter_node_allocatable_bytes{{{NODE}}}": "12884901888 0 0 12884901888x20",
                    condition("Ready"): "1 stale stale 1x20",
                },
                at="5m",
            ),
        },
    ),
    "ArbiterRegistrationFailing": Alert(
        on=Case(
            series={'arbiter_registration_total{result="failed", pod="arbiter-device-plugin-x"}': "0+1x20"},
            at="10m",
            fires=({"result": "failed", "pod": "arbiter-device-plugin-x"},),
        ),
        quiet={
            "the kubelet is restarted": Case(
                series={
                    'arbiter_registration_total{result="failed", pod="a"}': "0 1 2x18",
                    'arbiter_registration_total{result="registered", pod="a"}': "0+1x20",
                },
                at="10m",
            )
        },
    ),
    "ArbiterFilterSlow": Alert(
        on=Case(series=filter_buckets(quick="0+98x60", slow="0+100x60"), at="20m", fires=({},)),
        quiet={
            "one call in two hundred is slow": Case(series=filter_buckets(quick="0+199x60", slow="0+200x60"), at="20m"),
            "nobody asks": Case(series=filter_buckets(quick="7x60", slow="9x60"), at="20m"),
        },
    ),
    "ArbiterVersionsDiffer": Alert(
        on=Case(
            series={
                'arbiter_build_info{component="arbiter-operator", version="0.2.0"}': "1x200",
                'arbiter_build_info{component="arbiter-device-plugin", version="0.1.0"}': "1x200",
            },
            at="70m",
            fires=({},),
        ),
        quiet={
            "an upgrade takes half an hour": Case(
                series={
                    'arbiter_build_info{component="arbiter-operator", version="0.2.0"}': "1x200",
                    'arbiter_build_info{component="arbiter-device-plugin", version="0.1.0"}': "1x60 stale",
                },
                at="70m",
            )
        },
    ),
    "ArbiterNodeNotReady": Alert(
        on=Case(
            series={condition("Ready"): "0x20", condition("Conflict"): "1x20"},
            at="6m",
            fires=({"node": "gpu-1", "condition": "Ready"},),
        ),
        quiet={
            "the driver is loaded again soon": Case(series={condition("Ready"): "1 0x6 1x20"}, at="8m"),
        },
    ),
    "ArbiterGpuUnhealthy": Alert(
        on=Case(
            series={f'arbiter_gpu_healthy{{{NODE}, gpu="GPU-1", index="1", model="A100"}}': "1 0x20"},
            at="5m",
            fires=({"node": "gpu-1", "gpu": "GPU-1", "index": "1", "model": "A100"},),
        ),
        quiet={
            "a GPU is well again after a minute": Case(
                series={f'arbiter_gpu_healthy{{{NODE}, gpu="GPU-1", index="1", model="A100"}}': "1 0 0 1x20"}, at="4m"
            )
        },
    ),
    "ArbiterOvercommitted": Alert(
        on=Case(
            series={condition("Overcommitted"): "0 1x20"},
            at="5m",
            fires=({"node": "gpu-1", "condition": "Overcommitted"},),
        ),
        quiet={"all fits": Case(series={condition("Overcommitted"): "0x20", condition("Ready"): "1x20"}, at="5m")},
    ),
    "ArbiterUnitMismatch": Alert(
        on=Case(
            series={condition("UnitMismatch"): "1x200"},
            at="70m",
            fires=({"node": "gpu-1", "condition": "UnitMismatch"},),
        ),
        quiet={"the node is drained at once": Case(series={condition("UnitMismatch"): "1x40 0x200"}, at="70m")},
    ),
    "ArbiterLedgerDrift": Alert(
        on=Case(
            series={'arbiter_ledger_drift_total{pod="arbiter-scheduler-0"}': "0x10 1x20"},
            at="6m",
            fires=({"pod": "arbiter-scheduler-0"},),
        ),
        quiet={
            "it happened long ago": Case(
                series={'arbiter_ledger_drift_total{pod="arbiter-scheduler-0"}': "7x90"}, at="40m"
            )
        },
    ),
    "ArbiterShrinkOverdue": Alert(
        on=Case(
            series={f'arbiter_grant_state{{{POD}, state="Overdue"}}': "1x20"},
            at="2m",
            fires=({**HAND, "state": "Overdue"},),
        ),
        quiet={
            "it gave back a little late": Case(
                series={
                    f'arbiter_grant_state{{{POD}, state="Overdue"}}': "1 stale",
                    f'arbiter_grant_state{{{POD}, state="Late"}}': "_ 1x20",
                },
                at="2m",
            )
        },
    ),
    "ArbiterStartHeld": Alert(
        on=Case(series={f"arbiter_floor_waiting{{{POD}}}": "1x20"}, at="6m", fires=(HAND,)),
        quiet={
            "its image is pulled for long": Case(
                series={f'arbiter_grant_state{{{POD}, state="Gated"}}': "1x40"},
                at="15m",
            ),
            "its neighbour gives back in time": Case(series={f"arbiter_floor_waiting{{{POD}}}": "1x3 stale"}, at="6m"),
        },
    ),
    "ArbiterMeasuredAboveGrant": Alert(
        on=Case(series={f"arbiter_measured_above_grant_bytes{{{POD}}}": "1073741824x20"}, at="3m", fires=(HAND,)),
        quiet={
            "for a moment": Case(series={f"arbiter_measured_above_grant_bytes{{{POD}}}": "1073741824 stale"}, at="3m"),
        },
    ),
    "ArbiterPodWaiting": Alert(
        on=Case(
            series={'arbiter_pod_waiting_since_timestamp_seconds{namespace="team-a", pod="chat-0"}': "60x90"},
            at="35m",
            fires=({"namespace": "team-a", "pod": "chat-0"},),
        ),
        quiet={
            "one after another waits for a while": Case(
                series={
                    'arbiter_pod_waiting_since_timestamp_seconds{namespace="team-a", pod="chat-0"}': "60x40 stale",
                    'arbiter_pod_waiting_since_timestamp_seconds{namespace="team-a", pod="chat-1"}': "_x40 1200x60",
                },
                at="40m",
            )
        },
    ),
}
QUIET = {f"{name}: {when}": (name, case) for name, alert in ALERTS.items() for when, case in alert.quiet.items()}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules as Prometheus' operator writes them to a file."""
    binaries.ensure([binaries.HELM, binaries.PROMTOOL])
    (made,) = (one for one in render(VALUES) if one["kind"] == "PrometheusRule")
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(made["spec"]))
    return path


def written(rules: Path) -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    return {rule["alert"]: rule for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"]}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(binaries.directory() / binaries.PROMTOOL), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_prometheus_takes_the_rules_and_finds_nothing_to_say_about_them(rules: Path) -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_on_what_it_fires_on_and_on_what_it_must_not(rules: Path) -> None:
    assert ALERTS.keys() == written(rules).keys()
    assert [name for name, alert in ALERTS.items() if not alert.on.fires or not alert.quiet] == []


@pytest.mark.parametrize("name", ALERTS)
def test_it_fires(name: str, rules: Path) -> None:
    expect(rules, name, ALERTS[name].on)


@pytest.mark.parametrize("case", QUIET)
def test_it_is_silent(case: str, rules: Path) -> None:
    expect(rules, *QUIET[case])


def expect(rules: Path, name: str, case: Case) -> None:
    """Has promtool say whether the alert fires with these labels and no others."""
    own = written(rules)[name]["labels"]
    firing = [{**labels, **own, "alertname": name, "alertstate": "firing"} for labels in case.fires]
    test = {
        "rule_files": [str(rules)],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "30s",
                "input_series": [{"series": key, "values": values} for key, values in case.series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'ALERTS{{alertname="{name}", alertstate="firing"}}',
                        "eval_time": case.at,
                        "exp_samples": [{"labels": f"ALERTS{braced(labels)}", "value": 1} for labels in firing],
                    }
                ],
            }
        ],
    }
    path = rules.with_name("test.yaml")
    path.write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def braced(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


RUNBOOK = (REPOSITORY / "docs" / "runbooks.md").read_text()


@pytest.mark.parametrize("name", ALERTS)
def test_its_runbook_is_where_it_says_and_tells_meaning_checks_and_fix(name: str, rules: Path) -> None:
    # A heading's anchor is its text in lower case.
    assert written(rules)[name]["annotations"]["runbook_url"] == f"{RUNBOOKS}#{name.lower()}"
    section = RUNBOOK.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert [word for word in ("**Meaning.**", "**Checks.**", "**Fix.**") if f"\n{word} " not in section] == []


def test_there_is_no_runbook_without_an_alert() -> None:
    headings = [line.removeprefix("## ") for line in RUNBOOK.splitlines() if line.startswith("## ")]
    assert headings == [*ALERTS]


def test_the_page_of_metrics_lists_every_alert_with_its_severity(rules: Path) -> None:
    page = (REPOSITORY / "docs" / "monitoring.md").read_text()
    listed = re.findall(r"^\| \[(\w+)\]\(runbooks\.md#(\w+)\) \| (\w+) \|", page, re.M)
    assert listed == [(name, name.lower(), rule["labels"]["severity"]) for name, rule in written(rules).items()]


def test_alerts_say_what_is_wrong_and_how_bad_it_is(rules: Path) -> None:
    for rule in written(rules).values():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
