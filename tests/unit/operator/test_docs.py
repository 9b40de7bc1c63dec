"""What the operator says to people is explained in docs/operator.md."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_CODE = _ROOT / "operator" / "arbiter_operator"
_PAGE = (_ROOT / "docs" / "operator.md").read_text()


def conditions() -> set[tuple[str, str]]:
    """Every type and reason of a condition that the code can write."""
    found = re.findall(r'_Finding\(\s*"(\w+)", "\w+", "(\w+)"', (_CODE / "conditions.py").read_text())
    assert len(found) > 15, "the pattern has lost the code"
    return {(kind, reason) for kind, reason in found}


def rows() -> set[tuple[str, str]]:
    """Type and reason of every row of the page's table; an empty type stands for the one above."""
    table = _PAGE.partition("## Conditions")[2].partition("## Events")[0]
    listed, kind = set(), ""
    for first, reason in re.findall(r"^\| (\w*) *\| `(\w+)` \|", table, re.MULTILINE):
        kind = first or kind
        listed.add((kind, reason))
    return listed


def test_every_reason_of_a_condition_is_listed_with_what_to_do() -> None:
    assert rows() == conditions()


def events() -> set[str]:
    notices = re.findall(r'reason="(\w+)"', (_CODE / "notices.py").read_text())
    causes = re.findall(r'^    [A-Z_]+ = "([A-Z]\w+)"', (_CODE / "evictions.py").read_text(), re.MULTILINE)
    assert notices
    assert causes
    return {*notices, *causes}


@pytest.mark.parametrize("reason", sorted(events()))
def test_every_event_is_explained(reason: str) -> None:
    assert f"`{reason}`" in _PAGE.partition("## Events")[2]
