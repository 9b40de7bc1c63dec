"""The custom resources, field by field, from the schemas of their definitions. Imports the API models."""

from collections.abc import Iterator
from typing import Any

import yaml

from arbiter_kube.api.crds import manifests
from hack.reference.tables import code, table

_INTRODUCTION = """# Custom resources

`kubectl explain gpuallocation.spec` shows the same in a cluster.
A size is a number of bytes with a unit, as `10Gi` or `1843Mi`; a duration is as `30s` or `2m30s`; a quality is above 0
and at most 1. The operator alone writes the status of `GpuAllocation` and `QualityPolicy`, a node's agent that of its
`GpuNode`.
"""


def page() -> str:
    """The page."""
    return "\n".join([_INTRODUCTION, *(_resource(yaml.safe_load(text)) for text in manifests().values())])


def _resource(crd: dict[str, Any]) -> str:
    spec = crd["spec"]
    names, (version,) = spec["names"], spec["versions"]
    columns = ", ".join(column["name"].upper() for column in version["additionalPrinterColumns"])
    schema = version["schema"]["openAPIV3Schema"]
    rows = [row for part in ("spec", "status") if part in schema["properties"] for row in _rows(part, schema)]
    return (
        f"## {names['kind']}\n\n"
        f"`{spec['group']}/{version['name']}`, {spec['scope'].lower()}, short name `{names['shortNames'][0]}`. "
        f"`kubectl get` prints {columns}.\n\n" + table(("field", "value", "meaning"), rows)
    )


def _rows(path: str, parent: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    name = path.rpartition(".")[2].removesuffix("[]")
    field = parent["properties"][name]
    inner = field.get("items", field)
    described = " ".join(field.get("description", "").split())
    if name in parent.get("required", []) and path != "spec":
        described += " Required." if not path.startswith("status") else ""
    if field.get("default") not in (None, {}, []):
        described += f" Default: {code(_plain(field['default']))}."
    yield code(path), _kind(field), described
    for child in inner.get("properties", {}):
        yield from _rows(f"{path}{'[]' if 'items' in field else ''}.{child}", inner)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(field: dict[str, Any]) -> str:
    """What may be written there."""
    if "items" in field:
        return f"list of {_kind(field['items'])}"
    if "enum" in field:
        return ", ".join(map(code, field["enum"]))
    if field.get("x-kubernetes-int-or-string"):
        return "size"
    if "additionalProperties" in field:
        return "map"
    kind: str = {"duration": "duration", "date-time": "time"}.get(field.get("format", ""), field.get("type", ""))
    low, high = field.get("minimum"), field.get("maximum")
    if (low, high) == (0, 1) and field.get("exclusiveMinimum"):
        return "quality"
    return kind if low is None or high is None else f"{kind}, {low} to {high}"
