"""The tables of docs/library.md have the figures of the code."""

import re

from arbiter.units import GIB
from arbiter.workload import Priority, WorkloadType
from tests.support.snippets import ROOT

IDEA = (ROOT / "docs" / "library.md").read_text().partition("## The idea")[2].partition("\n## ")[0]


def rows(first: str) -> list[list[str]]:
    """The cells below the heading whose first cell says this."""
    table = IDEA.partition(f"| {first} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_every_type_is_there_with_its_figures() -> None:
    assert [[row[0], row[1][:4], row[2], row[3]] for row in rows("type")] == [
        [
            f"`{kind}`",
            f"{float(kind.defaults.minimum_quality):.2f}",
            f"{kind.defaults.typical_memory // GIB} GiB",
            f"{kind.defaults.timeout:g} s",
        ]
        for kind in WorkloadType
    ]


def test_every_priority_is_there_with_its_figures() -> None:
    assert [[re.findall(r"\w+", row[0])[0], *row[1:3]] for row in rows("priority")] == [
        [priority.value, f"{float(priority.quality_multiplier)}", f"{priority.timeout_multiplier}"]
        for priority in Priority
    ]


def test_who_may_have_whom_leave() -> None:
    told = {re.findall(r"\w+", row[0])[0]: re.findall(r"`(\w+)`", row[3]) for row in rows("priority")}
    highest = {
        priority.value: [max(lower).value]
        if (lower := [other for other in Priority if priority.may_preempt(other)])
        else []
        for priority in Priority
    }
    assert told == highest
