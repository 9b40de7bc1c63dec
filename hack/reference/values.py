"""The chart's values with their defaults: the comments of values.yaml, else the schema's descriptions."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

import yaml

from hack.cluster.paths import REPOSITORY
from hack.reference.tables import code, table

_CHART = REPOSITORY / "charts" / "arbiter"

_INTRODUCTION = """# Values of the chart

Set them with `--set NAME=VALUE` or a file (`--values`). A name that is not in this list, or a value that cannot work,
is refused with its path. `policy` takes every field of a [`QualityPolicy`'s spec](resources.md#qualitypolicy).
"""


def page() -> str:
    """The page."""
    text = (_CHART / "values.yaml").read_text()
    schema = json.loads((_CHART / "values.schema.json").read_text())
    root = cast("yaml.MappingNode", yaml.compose(text, Loader=yaml.SafeLoader))
    rows = _rows((), root, schema, text.splitlines())
    return f"{_INTRODUCTION}\n{table(('value', 'default', 'meaning'), rows)}"


def _rows(
    path: Sequence[str], mapping: yaml.MappingNode, schema: dict[str, Any], lines: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    for key, value in mapping.value:
        here = (*path, key.value)
        described = schema["properties"][key.value]
        meaning = _comment(key.start_mark, lines) or described["description"]
        if isinstance(value, yaml.MappingNode) and "properties" in described:
            if path == () or _comment(key.start_mark, lines):
                yield code(".".join(here)), "", meaning
            yield from _rows(here, value, described, lines)
        else:
            yield code(".".join(here)), code(_default(value)), meaning


def _default(node: yaml.Node) -> str:
    """As one would write it on one line."""
    return json.dumps(yaml.SafeLoader("").construct_document(node))


def _comment(key: yaml.Mark, lines: Sequence[str]) -> str:
    """The sentences right above a key that is the first of its line."""
    first = line = key.line
    if lines[line][: key.column].strip():
        return ""
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(text.strip(" #") for text in lines[first:line])
