"""CustomResourceDefinitions from the pydantic models, so that what is validated and what is read cannot differ.

Own code: the libraries that turn pydantic models into CRDs have no CEL rules, list types and printer columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from arbiter_kube.api import GROUP
from arbiter_kube.api.resources import GPU_ALLOCATIONS, GPU_NODES, QUALITY_POLICIES, Resource

Schema = dict[str, Any]  # JSON of any depth

HEADER = "# Generated from kube/arbiter_kube/api by `arbiter crds --directory crds`. Do not edit.\n"


class SchemaError(Exception):
    """A model says something that a structural schema cannot."""


@dataclass(frozen=True, slots=True)
class Column:
    """What `kubectl get` prints: a title and the path of a value. `type` is OpenAPI's, or date."""

    name: str
    path: str
    type: str = "string"


_AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A custom resource with what its model does not tell."""

    resource: Resource[Any]  # of every model
    short_name: str
    columns: tuple[Column, ...]


DEFINITIONS = (
    Definition(
        resource=GPU_ALLOCATIONS,
        short_name="gpua",
        columns=(
            Column("Type", ".spec.workloadType"),
            Column("Priority", ".spec.priority"),
            Column("Full", ".status.resolved.full"),
            Column("Floor", ".status.resolved.floor"),
            Column("Pods", ".status.pods"),
            Column("Quality", ".status.quality", "number"),
            Column("Phase", ".status.phase"),
            _AGE,
        ),
    ),
    Definition(
        resource=QUALITY_POLICIES,
        short_name="qpol",
        columns=(
            Column("Mode", ".spec.mode"),
            Column("Threshold", ".spec.pressureThreshold", "number"),
            Column("Nodes", ".status.nodes", "integer"),
            _AGE,
        ),
    ),
    Definition(
        resource=GPU_NODES,
        short_name="gpun",
        columns=(
            Column("GPUs", ".status.summary.gpus", "integer"),
            Column("Usable", ".status.summary.usable"),
            Column("Floors", ".status.summary.floors"),
            Column("Granted", ".status.summary.granted"),
            Column("Used", ".status.summary.used"),
            Column("Healthy", ".status.summary.healthy"),
            Column("Enforcement", ".status.summary.enforcement"),
            _AGE,
        ),
    ),
)


def manifests() -> dict[str, str]:
    """The YAML of every CRD by file name."""
    return {f"{GROUP}_{definition.resource.plural}.yaml": _yaml(definition) for definition in DEFINITIONS}


def _yaml(definition: Definition) -> str:
    return HEADER + yaml.safe_dump(_crd(definition), sort_keys=False, width=120, allow_unicode=True)


def _crd(definition: Definition) -> Schema:
    resource = definition.resource
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {
            "group": resource.group,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [definition.short_name],
                "categories": ["arbiter"],
            },
            "versions": [
                {
                    "name": resource.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": column.name, "type": column.type, "jsonPath": column.path}
                        for column in definition.columns
                    ],
                    "schema": {"openAPIV3Schema": object_schema(resource.model)},
                }
            ],
        },
    }


def object_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of a whole object: metadata is the API server's, a status has no defaults.

    Raises:
        SchemaError: the model says something that a structural schema cannot.
    """
    schema = structural(model.model_json_schema(by_alias=True))
    properties = schema["properties"]
    del properties["metadata"]
    # A default in a status would state what nobody has said; readers have the model's.
    status = {"status": _without_defaults(properties.pop("status"))} if "status" in properties else {}
    required = [name for name in schema.pop("required", []) if name != "metadata"]
    schema["properties"] = (
        {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
        | properties
        | status
    )
    return schema | ({"required": required} if required else {})


_KEPT = {
    *("description", "type", "format", "default", "enum", "nullable", "required", "pattern"),
    *("minimum", "maximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"),
}
_DROPPED = {"title", "$schema", "$defs", "examples"}


def structural(schema: Schema) -> Schema:
    """A JSON schema of pydantic's (2020-12) as Kubernetes' structural OpenAPI 3.0.

    Raises:
        SchemaError: a keyword that has no such form.
    """
    return _convert(schema, definitions=schema.get("$defs", {}))


def _convert(schema: Schema, *, definitions: Mapping[str, Schema]) -> Schema:
    result: Schema = {}
    for keyword, value in _flat(schema, definitions).items():
        match keyword:
            case "properties":
                result[keyword] = {name: _convert(inner, definitions=definitions) for name, inner in value.items()}
            case "items":
                result[keyword] = _convert(value, definitions=definitions)
            case "additionalProperties" if isinstance(value, dict):
                result[keyword] = _convert(value, definitions=definitions)
            case "additionalProperties":
                # Unknown fields are pruned whatever the model says; beside properties the keyword is forbidden.
                continue
            case "exclusiveMinimum" | "exclusiveMaximum":
                result |= {keyword.removeprefix("exclusive").lower(): value, keyword: True}
            case "const":
                result["enum"] = [value]
            case "uniqueItems":
                result["x-kubernetes-list-type"] = "set"
            case "type" | "default" if value is None:
                continue
            case _ if keyword in _KEPT or keyword.startswith("x-kubernetes-"):
                result[keyword] = value
            case _ if keyword not in _DROPPED:
                raise SchemaError(f"a structural schema has no {keyword}: {value!r}")
    if result.get("type") == "integer":
        result.setdefault("format", "int64")
    return result


def _flat(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """The schema with references replaced by what they refer to, and `T | None` by T; keywords beside them win.

    Not `nullable`: the API server drops a null where a field is not nullable, which makes it a field left out, while
    a nullable field would reach CEL rules as null.
    """
    rest = {keyword: value for keyword, value in schema.items() if keyword not in ("$ref", "anyOf")}
    if "$ref" in schema:
        return _flat(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions) | rest
    match [option for option in schema.get("anyOf", []) if option != {"type": "null"}]:
        case [option]:
            return _flat(option, definitions) | rest
    return schema


def _without_defaults(schema: Schema) -> Schema:
    return {
        keyword: (
            {name: _without_defaults(inner) for name, inner in value.items()}
            if keyword == "properties"
            else _without_defaults(value)
            if keyword in ("items", "additionalProperties")
            else value
        )
        for keyword, value in schema.items()
        if keyword != "default"
    }
