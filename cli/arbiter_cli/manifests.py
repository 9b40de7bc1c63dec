"""Manifests as people write them, read the way the API server would: workloads, GpuAllocations, QualityPolicies.

Imports the API models; no cluster is asked.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from arbiter.workload import Priority
from arbiter_cli.errors import InputError, MistakeError
from arbiter_cli.workloads import Workload, workload
from arbiter_kube.api import API_VERSION, GROUP
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.qualitypolicy import QualityPolicy

_SUFFIXES = (".yaml", ".yml", ".json")
_Custom = GpuAllocation | QualityPolicy
_MODELS: dict[str, type[_Custom]] = {"GpuAllocation": GpuAllocation, "QualityPolicy": QualityPolicy}
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
"""Ten times as fast where PyYAML was built with libyaml, as its wheels are."""

_CLUSTER_WIDE = ("Namespace", "QualityPolicy")
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?", re.ASCII)

MAX_PRIORITY = f"{GROUP}/max-priority"
"""The label with which a namespace caps the priority of its pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """The highest priority that pods of a namespace may have."""

    namespace: str
    highest: Priority


Content = Workload | GpuAllocation | QualityPolicy | Cap


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One object, and the file that it stands in."""

    source: str
    content: Content


def read_manifests(paths: Iterable[str]) -> tuple[Manifest, ...]:
    """The objects of these files, directories (their YAML and JSON files, by name) and "-" (stdin), in their order.

    An object that is there twice is applied twice: the last one counts, in the place of the first.

    Raises:
        InputError: something cannot be read, or would be refused.
    """
    found: dict[tuple[str, str, str], Manifest] = {}
    generated: Counter[tuple[str, str, str]] = Counter()
    for path in paths:
        for source, text in _texts(path):
            for document in _documents(source, text):
                kind, namespace, name = _identity(source, document, generated)
                try:
                    content = _content(kind, document)
                except MistakeError as mistake:
                    raise InputError(f"{source}: {kind} {ObjectKey(namespace, name)}: {mistake}.") from mistake
                if content is not None:
                    found[kind, namespace, name] = Manifest(source=source, content=content)
    return tuple(found.values())


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
        documents = [_normalised(document, {}) for document in yaml.load_all(text, Loader=_LOADER)]
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{source}{line}: is no YAML: {error.problem}.") from error
    except RecursionError as error:
        raise InputError(f"{source}: is no YAML: it holds itself, or nests too deep.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{source}: is no YAML: {' '.join(str(error).split())}.") from error
    for document in documents:
        if document is not None:
            yield from _objects(document)


def _objects(document: Any) -> Iterator[Any]:
    """The document itself, or the members of a list, which may leave out what the list says of them."""
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or not kind.endswith("List"):
        yield document
        return
    shared = {} if kind == "List" else {"kind": kind.removesuffix("List"), "apiVersion": document.get("apiVersion")}
    items = document.get("items")
    for item in items if isinstance(items, list) else ():
        yield from _objects({**shared, **item} if isinstance(item, dict) else item)


def _normalised(value: Any, done: dict[int, Any]) -> Any:
    """As the API server reads it: null is absent, and a quantity may be written as a number.

    `done` are values by identity, since what is written once may be meant a billion times.
    """
    if not isinstance(value, list | dict):
        return value
    if id(value) not in done:
        done[id(value)] = (
            _normalised_fields(value, done) if isinstance(value, dict) else [_normalised(item, done) for item in value]
        )
    return done[id(value)]


def _normalised_fields(fields: dict[Any, Any], done: dict[int, Any]) -> dict[Any, Any]:
    clean = {key: _normalised(item, done) for key, item in fields.items() if item is not None}
    for key in ("limits", "requests"):
        if isinstance(clean.get(key), dict):
            clean[key] = {name: str(quantity) for name, quantity in clean[key].items()}
    return clean


def _identity(source: str, document: object, generated: Counter[tuple[str, str, str]]) -> tuple[str, str, str]:
    """Kind, namespace and name, filled in where they are left out; `generated` names are numbered."""
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise InputError(f"{source}: a document has no kind; write Kubernetes objects, parted by lines of ---.")
    kind, given = document["kind"], document.get("metadata")
    if not isinstance(given, dict) or not (given.get("name") or given.get("generateName")):
        raise InputError(f"{source}: {kind} has no metadata.name; write one.")
    namespace = "" if kind in _CLUSTER_WIDE else given.get("namespace") or "default"
    # A copy: several objects may mean one metadata in YAML.
    metadata = document["metadata"] = {**given, "namespace": namespace}
    if not metadata.get("name"):
        alike = kind, str(namespace), str(metadata["generateName"])
        metadata["name"] = f"{metadata['generateName']}{generated[alike]}"
        generated[alike] += 1
    return kind, str(namespace), str(metadata["name"])


def _content(kind: str, document: dict[str, Any]) -> Content | None:
    """What is planned with; None for an object that has no part in it."""
    if kind == "Namespace":
        return _cap(document["metadata"])
    model = _MODELS.get(kind)
    content = workload(kind, document) if model is None else _custom(model, document)
    if content is not None:
        _refuse_odd_name(document["metadata"])
    return content


def _cap(metadata: dict[str, Any]) -> Cap | None:
    labels = metadata.get("labels")
    text = labels.get(MAX_PRIORITY) if isinstance(labels, dict) else None
    if text is None:
        return None
    names = [priority.value for priority in Priority]
    if text not in names:
        raise MistakeError(f'label {MAX_PRIORITY} "{text}" is no priority; write one of {", ".join(names)}')
    return Cap(namespace=str(metadata["name"]), highest=Priority(text))


def _refuse_odd_name(metadata: dict[str, Any]) -> None:
    for field in ("name", "namespace"):
        if metadata[field] != "" and not (isinstance(metadata[field], str) and _NAME.fullmatch(metadata[field])):
            raise MistakeError(
                f'metadata.{field} "{metadata[field]}" is no name; write lower-case letters, digits, "-" and "."'
            )


def _custom(model: type[_Custom], document: dict[str, Any]) -> _Custom:
    if document.get("apiVersion") != API_VERSION:
        raise MistakeError(f'apiVersion "{document.get("apiVersion", "")}" is unknown; write {API_VERSION}')
    try:
        # From JSON, and strictly: the API server takes no text for a number either.
        content = model.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        raise MistakeError(_first_mistake(error)) from error
    read = content.model_dump(by_alias=True, exclude_unset=True)
    unknown = next(_unknown(document.get("spec", {}), read.get("spec", {}), "spec"), None)
    if unknown is not None:
        raise MistakeError(f"{unknown} is no field; arbiter crds prints those that are")
    mistake = content.spec.mistake() if isinstance(content, QualityPolicy) else None
    if mistake is not None:
        raise MistakeError(mistake)
    return content


def _unknown(given: Any, read: Any, path: str) -> Iterator[str]:
    """The fields that were given and not read."""
    if isinstance(given, list):
        for number, (value, there) in enumerate(zip(given, read, strict=True)):
            yield from _unknown(value, there, f"{path}.{number}")
    elif isinstance(given, dict):
        for key, value in given.items():
            if key in read:
                yield from _unknown(value, read[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"


def _first_mistake(error: ValidationError) -> str:
    mistake = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "missing":
        return f"{field} is missing"
    if mistake["type"] == "value_error":
        return f"{field}: {mistake['ctx']['error']}"
    given = "" if isinstance(mistake["input"], dict | list) else f' "{mistake["input"]}"'
    return f"{field}{given} cannot be: {mistake['msg'].replace('Input', 'it')}"
