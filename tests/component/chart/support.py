"""Choices of values, and the chart rendered once for each."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from hack.cluster.chart import Object, render

CHOICES: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "simulated GPUs": {"gpuBackend": "simulated"},
    "a registry of one's own": {
        "image": {"registry": "registry.example.com/infra", "digest": f"sha256:{'0' * 64}"},
        "imagePullSecrets": [{"name": "registry"}],
        "scheduler": {"kubeScheduler": {"image": {"registry": "kubernetes.example.com/", "tag": "v1.34.1"}}},
    },
    "a certificate by cert-manager": {"tls": {"certManager": {"enabled": True}}},
    "a certificate by a cluster's issuer": {
        "tls": {"certManager": {"enabled": True, "issuerRef": {"name": "internal", "kind": "ClusterIssuer"}}}
    },
    "a certificate that somebody else keeps": {"tls": {"existingSecret": "webhook", "caBundle": "PEM"}},
    "nothing that can be left out": {
        "policy": None,
        "crds": {"install": False},
        "networkPolicy": {"enabled": False},
        "operator": {"replicas": 1, "maxUnavailable": None, "priorityClassName": ""},
        "scheduler": {"replicas": 1, "maxUnavailable": None, "priorityClassName": ""},
        "devicePlugin": {"tolerations": [], "priorityClassName": ""},
    },
    "everything that can be added": {
        "commonLabels": {"team": "platform"},
        "crds": {"keep": False},
        "policy": {"mode": "LlmFirst", "minimumQuality": {"llm": 0.3}, "shrinkGrace": "20s"},
        "webhook": {"excludedNamespaces": ["ci"]},
        "metrics": {
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "rules": {
                "enabled": True,
                "labels": {"release": "prometheus"},
                "runbookUrl": "https://docs.example.com/arbiter/runbooks",
            },
        },
        "grafana": {"dashboards": {"enabled": True, "annotations": {"grafana_folder": "GPUs"}}},
        "devicePlugin": {
            "runtimeClassName": "nvidia",
            "privileged": True,
            "devices": ["0", "GPU-8a1f0c52-0000-0000-0000-000000000000"],
            "vramBudget": "80%",
            "gpuAccess": "cdi",
            "ignoredXids": [63, 94],
            "maxUnavailable": "10%",
            "nodeSelector": {"pool": "gpu"},
            "affinity": {"podAntiAffinity": {}},
            "podAnnotations": {"example.com/a": "b"},
            "podLabels": {"example.com/a": "b"},
            "serviceAccount": {"annotations": {"example.com/a": "b"}},
        },
        "operator": {"podAnnotations": {"example.com/a": "b"}, "nodeSelector": {"pool": "system"}},
        "scheduler": {"placement": "spread", "tolerations": [{"operator": "Exists"}]},
    },
}


def rendered(choice: str = "the defaults") -> list[Object]:
    """The objects of a choice."""
    return _rendered(json.dumps(CHOICES[choice]))


@cache
def _rendered(values: str) -> list[Object]:
    return render(json.loads(values))


def of_kind(kind: str, choice: str = "the defaults") -> dict[str, Object]:
    """The objects of a kind by their names."""
    return {one["metadata"]["name"]: one for one in rendered(choice) if one["kind"] == kind}


def pod_specs(choice: str = "the defaults") -> dict[str, Object]:
    """The pods' specs by the name of what makes them."""
    makers = {**of_kind("Deployment", choice), **of_kind("DaemonSet", choice)}
    pods = {name: one["spec"] for name, one in of_kind("Pod", choice).items()}
    return {**pods, **{name: one["spec"]["template"]["spec"] for name, one in makers.items()}}


def containers(spec: Object) -> Iterator[Object]:
    """A pod's containers, sidecars too."""
    yield from (*spec.get("initContainers", []), *spec["containers"])
