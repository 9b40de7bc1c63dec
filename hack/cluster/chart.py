"""Arbiter's Helm chart: helm, and what the chart renders to for tests whose processes run outside of pods.

Imports `binaries`.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from hack.cluster import binaries
from hack.cluster.command import NO_PROXY, run
from hack.cluster.paths import REPOSITORY, digest_of

CHART = REPOSITORY / "charts" / "arbiter"
RELEASE, NAMESPACE = "arbiter", "arbiter-system"
_SECONDS = 60.0

Object = dict[str, Any]
"""A Kubernetes object as YAML has it."""

NAMESPACE_OBJECT: Object = {
    "apiVersion": "v1",
    "kind": "Namespace",
    # The node's agent uses the node's process ids and directories.
    "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
}
_OF_PODS = {"ConfigMap", "DaemonSet", "Deployment", "NetworkPolicy", "Pod", "PodDisruptionBudget", "Secret", "Service"}
_RIGHTS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}


def content() -> str:
    """Stands for what the chart is made of: another text for each content."""
    return digest_of((path for path in CHART.rglob("*") if path.is_file()), root=CHART)


def render(values: Mapping[str, Any] | None = None, *, flags: Iterable[str] = ()) -> list[Object]:
    """What the chart makes of these values, without a cluster; CommandError where it refuses them."""
    command = ("template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--values=-", *flags)
    text = helm(*command, stdin=json.dumps(values or {}))
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def outside_pods() -> list[Object]:
    """What processes need that do not run in pods: the namespace first, all that the chart makes but its pods' own."""
    return [NAMESPACE_OBJECT, *(one for one in render() if one["kind"] not in _OF_PODS)]


def rights(component: str) -> list[Object]:
    """The namespace, and a component's service account with its roles."""
    labels = {"app.kubernetes.io/component": component}
    ours = (one for one in render() if one["kind"] in _RIGHTS and labels.items() <= one["metadata"]["labels"].items())
    return [NAMESPACE_OBJECT, *ours]


def with_webhook_at(url: str, objects: Iterable[Object], *, authority: bytes) -> list[Object]:
    """The objects, with the webhook asked at an address of one's own; `authority` is that of its certificate, PEM."""
    client = {"url": url, "caBundle": base64.b64encode(authority).decode()}
    return [
        {**one, "webhooks": [{**webhook, "clientConfig": client} for webhook in one["webhooks"]]}
        if one["kind"] == "MutatingWebhookConfiguration"
        else one
        for one in objects
    ]


def scheduler_config(kubeconfig: Path) -> str:
    """Returns the chart's configuration of the second kube-scheduler, for one that runs alone outside a pod."""
    (text,) = (one["data"]["scheduler.yaml"] for one in render() if one["kind"] == "ConfigMap")
    config = yaml.safe_load(text)
    config["clientConnection"]["kubeconfig"] = str(kubeconfig)
    config["leaderElection"] = {"leaderElect": False}
    return yaml.safe_dump(config, sort_keys=False)


def helm(*arguments: str, kubeconfig: Path | None = None, stdin: str | None = None, seconds: float = _SECONDS) -> str:
    """Runs helm, which must have been built, and returns what it printed; raises CommandError."""
    environment: dict[str, str] = {}
    if kubeconfig is not None:
        # What helm remembers of the API server at this address may have been another cluster's.
        cache = kubeconfig.parent / "kubectl-cache"
        environment = {"KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(cache), **NO_PROXY}
    command = [str(binaries.directory() / binaries.HELM), *arguments]
    return run(command, seconds=seconds, stdin=stdin, environment=environment)
