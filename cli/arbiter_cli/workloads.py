"""How many pods an object of Kubernetes makes, and what they look like. Imports the API models; no cluster is asked."""

from dataclasses import dataclass
from typing import Any

import msgspec

from arbiter_cli.errors import MistakeError
from arbiter_kube.api.objects import Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What makes pods, or a bare pod: `replicas` pods at a time like `pod`, None for one on each node.

    `pod` has its maker's name and namespace.
    """

    kind: str
    replicas: int | None
    pod: Pod


def workload(kind: str, document: dict[str, Any]) -> Workload | None:
    """Anything with a pod template, and bare pods; None for an object that makes no pods.

    Raises:
        MistakeError: the API server would refuse it.
    """
    spec = _fields(document.get("spec"))
    suspended = spec.get("suspend") is True
    if kind == "CronJob":
        spec = _fields(_fields(spec.get("jobTemplate")).get("spec"))
    template = document if kind == "Pod" else _fields(spec.get("template"))
    if "containers" not in _fields(template.get("spec")):
        return None
    metadata = dict(_fields(template.get("metadata")))
    for key, value in _fields(metadata.get("annotations")).items():
        if not isinstance(value, str):
            raise MistakeError(f'annotation {key} must be text; write "{value}" in quotes')
    metadata.update(name=document["metadata"]["name"], namespace=document["metadata"]["namespace"])
    try:
        pod = msgspec.convert({**template, "metadata": metadata}, Pod)
    except msgspec.ValidationError as error:
        raise MistakeError(str(error)) from error
    replicas = _replicas(kind, spec)
    return Workload(kind=kind, replicas=0 if suspended else replicas, pod=pod)


def _replicas(kind: str, spec: dict[str, Any]) -> int | None:
    """How many pods there are at a time."""
    if kind == "Pod":
        return 1
    if kind == "DaemonSet":
        return None
    if kind in ("Job", "CronJob"):
        parallelism = _count(spec, "parallelism", default=1)
        return min(parallelism, _count(spec, "completions", default=parallelism))
    return _count(spec, "replicas", default=1)


def _count(spec: dict[str, Any], field: str, *, default: int) -> int:
    count = spec.get(field, default)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise MistakeError(f'spec.{field} "{count}" is no count; write a whole number')
    return count


def _fields(value: object) -> dict[str, Any]:
    """The value if it has fields, else no fields."""
    return value if isinstance(value, dict) else {}
