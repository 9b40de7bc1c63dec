"""The metrics of each process, as its code declares them. Imports the three processes."""

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import cast

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics import MetricWrapperBase

from arbiter.ids import NodeName
from arbiter_deviceplugin import metrics as agent
from arbiter_deviceplugin.backends import Reading
from arbiter_deviceplugin.gpunode import NodeFacts
from arbiter_extender import metrics as extender
from arbiter_extender.ledger import Ledger
from arbiter_kube.client import health
from arbiter_operator import metrics as operator
from arbiter_operator.cluster import Cluster
from hack.reference.tables import code, table

_INTRODUCTION = """# Metrics

Each process serves them at `/metrics` of port 8080 (`--health-bind`), beside its probes, and with them those that the
Python client has of every process. Prices, qualities and phases are told by the leading replica of the operator alone,
so that sums count them once.
"""


def page() -> str:
    """The page."""
    families: dict[str, Iterable[MetricWrapperBase | Metric]] = {
        "Every process": _declared(health),
        "Operator": [
            *_declared(operator),
            *operator.ClusterCollector(Cluster(unit=1 << 30), prices=dict, leading=lambda: True).collect(),
        ],
        "Extender": [
            *vars(extender.Metrics(CollectorRegistry())).values(),
            *extender.LedgerCollector(Ledger(unit=1 << 30)).collect(),
        ],
        "Device plugin": [*_declared(agent), *agent.NodeCollector(NodeName("gpu-1"), _nothing).collect()],
    }
    sections = (f"## {name}\n\n{_table(members)}" for name, members in families.items())
    return "\n".join([_INTRODUCTION, *sections])


def _declared(module: ModuleType) -> Iterator[MetricWrapperBase]:
    return (value for value in vars(module).values() if isinstance(value, MetricWrapperBase))


def _table(families: Iterable[MetricWrapperBase | Metric]) -> str:
    rows = []
    for family in families:
        described = family if isinstance(family, Metric) else next(iter(family.describe()))
        name = described.name + ("_total" if described.type == "counter" else "")
        # Labels have no public name in the client; a family without samples tells them in no other way.
        labels = cast("tuple[str, ...]", getattr(family, "_labelnames", ()))
        rows.append((code(name), described.type, ", ".join(map(code, labels)), described.documentation))
    return table(("metric", "type", "labels", "meaning"), sorted(rows))


def _nothing() -> NodeFacts:
    """A node without GPUs: its families have names and labels all the same."""
    return NodeFacts(
        version="",
        boot_id="",
        vendor="",
        unit=1 << 30,
        wanted_unit=1 << 30,
        reading=Reading(),
        grants=(),
        pods={},
        listed=(),
        foreign=(),
        rungs={},
    )
