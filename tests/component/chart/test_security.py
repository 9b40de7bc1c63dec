"""What the chart's pods and roles may do, and that everything beyond the least has its reason beside it."""

import re
from pathlib import Path

import pytest

from hack.cluster.chart import CHART, NAMESPACE, Object
from tests.component.chart.support import CHOICES, containers, of_kind, pod_specs

HARDENED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
ROLES = sorted(path for path in (CHART / "templates").rglob("*.yaml") if "\nrules:\n" in path.read_text())


@pytest.mark.parametrize("choice", CHOICES)
def test_all_but_the_agent_keep_the_restricted_pod_security_standard(choice: str) -> None:
    for name, spec in pod_specs(choice).items():
        if name == "arbiter-device-plugin":
            continue
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostPID", "hostNetwork", "hostIPC"} & spec.keys()
        assert all(one["securityContext"] == HARDENED for one in containers(spec))
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume} - {"name"}
        assert kinds <= {"configMap", "secret"}


def test_the_agent_goes_beyond_it_only_where_it_must() -> None:
    spec = pod_specs()["arbiter-device-plugin"]
    (container,) = spec["containers"]
    assert container["securityContext"] == HARDENED
    beyond = {
        "host namespaces": {"hostPID", "hostNetwork", "hostIPC"} & spec.keys(),
        "user": spec["securityContext"]["runAsUser"],
        "host paths": {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]},
    }
    assert beyond == {
        "host namespaces": {"hostPID"},
        "user": 0,
        "host paths": {
            "/var/lib/kubelet/device-plugins": False,
            "/var/lib/kubelet/pod-resources": False,
            "/var/lib/arbiter": False,
            "/run/arbiter/containers": False,
            "/sys/fs/cgroup": True,
        },
    }


def test_the_kubelet_mounts_into_containers_what_the_agent_names_by_the_same_path() -> None:
    spec = pod_specs("simulated GPUs")["arbiter-device-plugin"]
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts == paths


@pytest.mark.parametrize("path", ROLES, ids=[str(path.relative_to(CHART)) for path in ROLES])
def test_every_right_has_its_reason(path: Path) -> None:
    lines = path.read_text().splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("- apiGroups:")]
    assert rules
    unexplained = [lines[number + 1].strip() for number in rules if not lines[number - 1].startswith("# ")]
    assert unexplained == []


@pytest.mark.parametrize("kind", ["ClusterRole", "Role"])
def test_no_role_says_everything(kind: str) -> None:
    for role in of_kind(kind).values():
        for rule in role["rules"]:
            assert not re.search(r"\*", " ".join((*rule["apiGroups"], *rule["resources"], *rule["verbs"])))
            assert "secrets" not in rule["resources"]


def test_admission_policies_know_the_processes_by_their_accounts() -> None:
    def named(policy: str) -> set[str]:
        found: list[str] = re.findall(r"'system:serviceaccount:([^']+)'", str(policies[policy]["spec"]))
        return set(found)

    policies: dict[str, Object] = of_kind("ValidatingAdmissionPolicy")
    assert named("arbiter-annotations") == {f"{NAMESPACE}:arbiter-operator", f"{NAMESPACE}:arbiter-scheduler"}
    assert named("arbiter-gpunodes") == {f"{NAMESPACE}:arbiter-device-plugin"}
    assert set(of_kind("ServiceAccount")) == {"arbiter-operator", "arbiter-scheduler", "arbiter-device-plugin"}


def test_the_webhook_never_sees_pods_without_which_nothing_starts() -> None:
    (webhook,) = of_kind("MutatingWebhookConfiguration", "everything that can be added")["arbiter"]["webhooks"]
    (selector,) = webhook["namespaceSelector"]["matchExpressions"]
    assert (selector["operator"], selector["values"]) == ("NotIn", ["kube-system", NAMESPACE, "ci"])
