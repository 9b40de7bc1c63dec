"""Manifests as people write them, read the way the API server would: workloads, GpuAllocations, QualityPolicies.

Imports the API models; no cluster is asked.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml
from pydantic import ValidationError

from arbiter_cli.errors import InputError
from arbiter_kube.api import API_VERSION
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.objects import Pod
from arbiter_kube.api.qualitypolicy import QualityPolicy

_SUFFIXES = (".yaml", ".yml", ".json")
_MODELS: dict[str, type[GpuAllocation] | type[QualityPolicy]] = {
    "GpuAllocation": GpuAllocation,
    "QualityPolicy": QualityPolicy,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What makes pods, or a bare pod: `replicas` pods like `pod`, which has its maker's name and namespace."""

    kind: str
    replicas: int
    pod: Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One object, and the file that it stands in."""

    source: str
    content: Workload | GpuAllocation | QualityPolicy


def read_manifests(paths: Iterable[str]) -> tuple[Manifest, ...]:
    """The objects of these files, directories (their YAML and JSON files, by name) and "-" (stdin), in their order.

    An object that is there twice is applied twice: the last one counts, in the place of the first.

    Raises:
        InputError: something cannot be read, or would be refused.
    """
    found: dict[tuple[str, str, str], Manifest] = {}
    for path in paths:
        for source, text in _texts(path):
            for document in _documents(source, text):
                kind, namespace, name = _identity(source, document)
                try:
                    content = _content(kind, document)
                except _RefusedError as refused:
                    raise InputError(f"{source}: {kind} {namespace}/{name}: {refused}.") from refused
                if content is not None:
                    found[kind, namespace, name] = Manifest(source=source, content=content)
    return tuple(found.values())


class _RefusedError(Exception):
    """What is wrong with one object, without a full stop."""


def _texts(path: str) -> Iterator[tuple[str, str]]:
    """Sources and their contents."""
    if path == "-":
        yield "stdin", sys.stdin.read()
        return
    try:
        if not Path(path).is_dir():
            yield path, Path(path).read_text(encoding="utf-8")
            return
        files = sorted(file for file in Path(path).iterdir() if file.suffix in _SUFFIXES)
        if not files:
            raise InputError(f"{path}: no YAML or JSON file is there; name a file or another directory.")
        for file in files:
            yield str(file), file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text; name a YAML or JSON file.") from error


def _documents(source: str, text: str) -> Iterator[dict[str, Any]]:
    """The objects of one text, those of lists one by one."""
    try:
        documents = [_normalised(document) for document in yaml.safe_load_all(text) if document is not None]
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{source}{line}: is no YAML: {error.problem}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{source}: is no YAML: {' '.join(str(error).split())}.") from error
    for document in documents:
        items = document.get("items") if isinstance(document, dict) else None
        if isinstance(items, list):
            yield from items
        else:
            yield document


def _normalised(value: Any) -> Any:
    """As the API server reads it: null is absent, and a quantity may be written as a number."""
    if isinstance(value, list):
        return [_normalised(item) for item in value]
    if not isinstance(value, dict):
        return value
    clean = {key: _normalised(item) for key, item in value.items() if item is not None}
    for key in ("limits", "requests"):
        if isinstance(clean.get(key), dict):
            clean[key] = {name: str(quantity) for name, quantity in clean[key].items()}
    return clean


def _identity(source: str, document: object) -> tuple[str, str, str]:
    """Kind, namespace (filled in where it is left out) and name."""
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise InputError(f"{source}: a document has no kind; write Kubernetes objects, parted by lines of ---.")
    metadata = document.setdefault("metadata", {})
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        raise InputError(f"{source}: {document['kind']} has no metadata.name; write one.")
    metadata.setdefault("name", metadata.get("generateName"))
    return document["kind"], str(metadata.setdefault("namespace", "default")), str(metadata["name"])


def _content(kind: str, document: dict[str, Any]) -> Workload | GpuAllocation | QualityPolicy | None:
    """What is planned with; None for an object that has no part in it."""
    model = _MODELS.get(kind)
    if model is None:
        return _workload(kind, document)
    if document.get("apiVersion") != API_VERSION:
        raise _RefusedError(f'apiVersion "{document.get("apiVersion", "")}" is unknown; write {API_VERSION}')
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _RefusedError(_first_mistake(error)) from error


def _first_mistake(error: ValidationError) -> str:
    mistake = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "missing":
        return f"{field} is missing"
    if mistake["type"] == "value_error":
        return f"{field}: {mistake['ctx']['error']}"
    given = "" if isinstance(mistake["input"], dict | list) else f' "{mistake["input"]}"'
    return f"{field}{given} cannot be: {mistake['msg'].replace('Input', 'it')}"


def _workload(kind: str, document: dict[str, Any]) -> Workload | None:
    """Anything with a pod template, and bare pods."""
    spec = _mapping(document.get("spec"))
    if kind == "CronJob":
        spec = _mapping(_mapping(spec.get("jobTemplate")).get("spec"))
    template = document if kind == "Pod" else _mapping(spec.get("template"))
    if "containers" not in _mapping(template.get("spec")):
        return None
    metadata = dict(_mapping(template.get("metadata")))
    for key, value in _mapping(metadata.get("annotations")).items():
        if not isinstance(value, str):
            raise _RefusedError(f'annotation {key} must be text; write "{value}" in quotes')
    metadata.update(name=document["metadata"]["name"], namespace=document["metadata"]["namespace"])
    try:
        pod = msgspec.convert({**template, "metadata": metadata}, Pod)
    except msgspec.ValidationError as error:
        raise _RefusedError(str(error)) from error
    return Workload(kind=kind, replicas=_replicas(kind, spec), pod=pod)


def _mapping(value: object) -> dict[str, Any]:
    """The value if it has fields, else no fields."""
    return value if isinstance(value, dict) else {}


def _replicas(kind: str, spec: dict[str, Any]) -> int:
    """How many pods there are at a time; a DaemonSet has one on the one node of a plan."""
    if kind in ("Pod", "DaemonSet"):
        return 1
    if kind in ("Job", "CronJob"):
        return min(_count(spec, "parallelism"), _count(spec, "completions", default=sys.maxsize))
    return _count(spec, "replicas")


def _count(spec: dict[str, Any], field: str, *, default: int = 1) -> int:
    count = spec.get(field, default)
    if not isinstance(count, int) or count < 0:
        raise _RefusedError(f'spec.{field} "{count}" is no count; write a whole number')
    return count
