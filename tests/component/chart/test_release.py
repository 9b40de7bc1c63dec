"""The chart's life as a release on a real API server: no pod runs here, but every object is taken or refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster.chart import CHART, NAMESPACE, RELEASE, helm
from hack.cluster.controlplane import ControlPlane


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One of its own, since the webhook and the admission policies would be in every other test's way."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        yield running


def test_a_release_is_installed_upgraded_and_removed(api: ControlPlane) -> None:
    def on(*arguments: str) -> str:
        return helm(*arguments, f"--namespace={NAMESPACE}", kubeconfig=api.admin_kubeconfig)

    def get(kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            api.kubectl("get", kind, name, f"--namespace={NAMESPACE}", "--output=json", "--ignore-not-found") or "{}"
        )
        return found

    told = on("install", RELEASE, str(CHART), "--create-namespace")
    assert "kubectl get gpunodes" in told
    assert get("qualitypolicy", "default")["spec"]["mode"] == "Adaptive"
    certificate, webhook = get("secret", "arbiter-webhook-tls")["data"], get("mutatingwebhookconfiguration", "arbiter")
    assert webhook["webhooks"][0]["clientConfig"]["caBundle"] == certificate["ca.crt"]

    api.kubectl("patch", "qualitypolicy", "default", "--type=merge", '--patch={"spec": {"mode": "LlmFirst"}}')
    on("upgrade", RELEASE, str(CHART))
    assert get("qualitypolicy", "default")["spec"]["mode"] == "LlmFirst", "an edit is not overruled"
    assert get("secret", "arbiter-webhook-tls")["data"] == certificate

    api.kubectl(
        *("annotate", "secret", "arbiter-webhook-tls", f"--namespace={NAMESPACE}", "--overwrite"),
        "arbiter.infernum.io/renew-after=1",
    )
    on("upgrade", RELEASE, str(CHART))
    renewed, webhook = get("secret", "arbiter-webhook-tls")["data"], get("mutatingwebhookconfiguration", "arbiter")
    assert renewed["tls.crt"] != certificate["tls.crt"]
    assert webhook["webhooks"][0]["clientConfig"]["caBundle"] == renewed["ca.crt"]

    on("uninstall", RELEASE)
    left = api.kubectl("get", "crd,clusterrole,priorityclass,mutatingwebhookconfiguration", "--output=name")
    assert sorted(name.partition("/")[2] for name in left.split() if "arbiter" in name) == [
        "gpuallocations.arbiter.infernum.io",
        "gpunodes.arbiter.infernum.io",
        "qualitypolicies.arbiter.infernum.io",
    ]
