"""`arbiter doctor` against a real API server: what it asks for, and what it makes of the answers."""

import json
from pathlib import Path

import pytest
import yaml

from hack.cluster import binaries
from hack.cluster.chart import Object, outside_pods, rights
from hack.cluster.controlplane import ControlPlane
from hack.cluster.paths import REPOSITORY
from tests.component.cli.support import NAMESPACE, Arbiter


@pytest.fixture
def installed(control_plane: ControlPlane) -> ControlPlane:
    """Everything of an installation but its processes: the webhook's operator is not there."""
    binaries.ensure([binaries.HELM])
    left_out = ("apiextensions", "admissionregistration", "arbiter.infernum.io")
    apply(control_plane, [one for one in outside_pods() if not one["apiVersion"].startswith(left_out)])
    return control_plane


def apply(control_plane: ControlPlane, objects: list[Object]) -> None:
    control_plane.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all(objects))


def verdicts(arbiter: Arbiter, *arguments: str) -> dict[str, tuple[str, str]]:
    """Verdict and text of each check."""
    _, out, _ = arbiter("doctor", "-n", NAMESPACE, "-o", "json", *arguments)
    return {check["name"]: (check["verdict"], check["text"]) for check in json.loads(out)}


def test_an_installation_without_its_processes(installed: ControlPlane, arbiter: Arbiter) -> None:
    code, out, err = arbiter("doctor", "-n", NAMESPACE)
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0].startswith("ok    API server 1.")
    assert lines[0].endswith(", CRDs v1alpha1 served")
    assert any(line.startswith("FAIL  operator: nobody ever led") for line in lines)
    assert any(line.startswith("FAIL  webhook: not installed") for line in lines)
    assert "ok    5 priority classes" in lines
    assert "ok    agents 1/1" in lines
    assert "ok    GPUs 1/1 healthy" in lines
    assert "\x1b" not in out


def test_rights_are_asked_of_the_authorizer_itself(installed: ControlPlane, arbiter: Arbiter) -> None:
    installed.kubectl("delete", "clusterrolebinding", "arbiter-device-plugin")
    assert verdicts(arbiter)["rights"] == ("FAIL", "service accounts lack 13 of the rights that they use")
    apply(installed, rights("device-plugin"))


def test_a_crd_of_another_version_is_seen(installed: ControlPlane, arbiter: Arbiter) -> None:
    crd = "gpunodes.arbiter.infernum.io"
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/unit/description"
    patch = json.dumps([{"op": "add", "path": path, "value": "another"}])
    installed.kubectl("patch", "crd", crd, "--type=json", "--patch", patch)
    verdict, text = verdicts(arbiter)["api"]
    assert (verdict, "1 of 3 CRDs are not those of arbiter" in text) == ("FAIL", True)
    installed.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={REPOSITORY / 'crds'}")
    assert verdicts(arbiter)["api"][0] == "ok"


def test_who_may_do_little_is_told_what_was_left_out(installed: ControlPlane, arbiter: Arbiter, tmp_path: Path) -> None:
    installed.kubectl("create", "serviceaccount", "guest", "-n", NAMESPACE)
    guest = installed.service_account_kubeconfig(NAMESPACE, "guest")
    code, out, _ = arbiter("doctor", "-n", NAMESPACE, kubeconfig=guest)
    assert code == 0
    assert out.count("skip  ") >= 10
    assert 'you may not: customresourcedefinitions.apiextensions.k8s.io is forbidden: User "system' in out
