"""What the operator says to people is explained in docs/operator.md."""

import re
from itertools import chain
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_CODE = _ROOT / "operator" / "arbiter_operator"
_AGENT = _ROOT / "deviceplugin" / "arbiter_deviceplugin" / "gpunode.py"
_PAGE = (_ROOT / "docs" / "operator.md").read_text()


def conditions() -> set[tuple[str, str]]:
    """Every type and reason of a condition that the operator and the nodes' agents can write."""
    own = re.findall(r'_Finding\(\s*"(\w+)", "\w+", "(\w+)"', (_CODE / "conditions.py").read_text())
    agent = _AGENT.read_text().replace("(kind,", '("MeasuredAboveGrant",')
    agents = re.findall(r'_(?:true|false|condition)\("(\w+)", (?:"Unknown", )?"(\w+)", (?!reason)', agent)
    assert len(own) > 15, "the pattern has lost the code"
    assert len(agents) > 10, "the pattern has lost the code"
    return {*own, *agents}


def rows() -> set[tuple[str, str]]:
    """Type and reason of every row of the page's tables; an empty type stands for the one above."""
    table = _PAGE.partition("## Conditions")[2].partition("## Events")[0]
    listed, kind = set(), ""
    for first, reasons in re.findall(r"^\| (\w*) *\| (`[^|]+`) \|", table, re.MULTILINE):
        kind = first or kind
        listed |= {(kind, reason) for reason in re.findall(r"`(\w+)`", reasons)}
    return listed


def test_every_reason_of_a_condition_is_listed_with_what_to_do() -> None:
    assert rows() == conditions()


def events() -> set[str]:
    code = (_CODE / "notices.py").read_text()
    notices = re.findall(r'reason="(\w+)"(?: if .* else "(\w+)")?', code)
    causes = re.findall(r'^    [A-Z_]+ = "([A-Z]\w+)"', (_CODE / "evictions.py").read_text(), re.MULTILINE)
    told = re.findall(r'"(\w+)": \("(\w+)", EventType', code)
    findings = re.findall(r'_Finding\(\s*"(\w+)", "(\w+)", "(\w+)"', (_CODE / "conditions.py").read_text())
    reasons = [reason for kind, status, reason in findings if (kind, status) in told]
    assert notices
    assert causes
    assert reasons
    return {*chain(*notices), *causes, *reasons} - {""}


@pytest.mark.parametrize("reason", sorted(events()))
def test_every_event_is_explained(reason: str) -> None:
    assert f"`{reason}`" in _PAGE.partition("## Events")[2]
