"""The chart's life as a release on a real API server: no pod runs here, but every object is taken or refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster.chart import CHART, NAMESPACE, RELEASE, helm
from hack.cluster.controlplane import ControlPlane
from hack.cluster.errors import CommandError


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One of its own, since the webhook and the admission policies would be in every other test's way."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        yield running


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The chart as it was before it had dashboards, and values for them."""
    chart = tmp_path / "arbiter"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "monitoring" / "dashboards.yaml").unlink()
    values, schema = chart / "values.yaml", chart / "values.schema.json"
    (known := yaml.safe_load(values.read_text())).pop("grafana")
    (fields := json.loads(schema.read_text()))["properties"].pop("grafana")
    values.write_text(yaml.safe_dump(known))
    schema.write_text(json.dumps(fields))
    return chart


def test_a_release_is_installed_upgraded_and_removed(api: ControlPlane, earlier: Path) -> None:
    def on(*arguments: str) -> str:
        return helm(*arguments, f"--namespace={NAMESPACE}", kubeconfig=api.admin_kubeconfig)

    def get(kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            api.kubectl("get", kind, name, f"--namespace={NAMESPACE}", "--output=json", "--ignore-not-found") or "{}"
        )
        return found

    told = on("install", RELEASE, str(earlier), "--create-namespace", "--set=logLevel=debug")
    assert "kubectl get gpunodes" in told
    assert get("qualitypolicy", "default")["spec"]["mode"] == "Adaptive"
    certificate, webhook = get("secret", "arbiter-webhook-tls")["data"], get("mutatingwebhookconfiguration", "arbiter")
    assert webhook["webhooks"][0]["clientConfig"]["caBundle"] == certificate["ca.crt"]

    api.kubectl("patch", "qualitypolicy", "default", "--type=merge", '--patch={"spec": {"mode": "LlmFirst"}}')
    with pytest.raises(CommandError, match="nil pointer evaluating interface"):
        on("upgrade", RELEASE, str(CHART), "--reuse-values")
    on("upgrade", RELEASE, str(CHART), "--reset-then-reuse-values")
    (container,) = get("deployment", "arbiter-operator")["spec"]["template"]["spec"]["containers"]
    assert "--log-level=debug" in container["args"], "what was set is kept"
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
