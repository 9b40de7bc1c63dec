import json
from pathlib import Path

import pytest

from hack.cluster.binaries import KUBERNETES_VERSION
from hack.cluster.controlplane import Component, ControlPlane
from hack.cluster.errors import CommandError


def test_the_api_server_is_of_the_version_in_go_mod(control_plane: ControlPlane) -> None:
    version = json.loads(control_plane.kubectl("version", "--output=json"))
    assert version["serverVersion"]["gitVersion"] == f"v{KUBERNETES_VERSION}"


def test_a_pod_is_accepted_without_a_service_account(control_plane: ControlPlane) -> None:
    control_plane.kubectl("run", "lonely", "--image=none")
    assert control_plane.kubectl("get", "pod", "lonely", "--output=jsonpath={.status.phase}") == "Pending"


def test_a_user_has_the_rights_of_its_groups_only(control_plane: ControlPlane) -> None:
    tenant = control_plane.kubeconfig("tenant", ["tenants"])
    with pytest.raises(CommandError, match='User "tenant" cannot list resource "secrets"'):
        control_plane.kubectl("get", "secrets", kubeconfig=tenant)
    whoami = json.loads(control_plane.kubectl("auth", "whoami", "--output=json", kubeconfig=tenant))
    assert whoami["status"]["userInfo"]["groups"] == ["tenants", "system:authenticated"]
    assert control_plane.kubeconfig("tenant", ["others"]) != tenant


def test_a_token_bound_to_a_node_names_it_in_its_claims(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "serviceaccount", "agent")
    control_plane.kubectl(
        "create", "--filename=-", stdin='{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n-1"}}'
    )
    agent = control_plane.service_account_kubeconfig("default", "agent", node="n-1")
    user = json.loads(control_plane.kubectl("auth", "whoami", "--output=json", kubeconfig=agent))["status"]["userInfo"]
    assert user["username"] == "system:serviceaccount:default:agent"
    assert user["extra"]["authentication.kubernetes.io/node-name"] == ["n-1"]


def test_objects_and_port_survive_a_restart_of_the_api_server(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    control_plane.stop_apiserver()
    with pytest.raises(CommandError, match="refused"):
        control_plane.kubectl("get", "configmap", "kept")
    control_plane.start_apiserver()
    assert control_plane.kubectl("get", "configmap", "kept", "--output=jsonpath={.data.a}") == "b"


def test_the_controller_manager_makes_service_accounts(tmp_path: Path) -> None:
    with ControlPlane(tmp_path, components=frozenset({Component.CONTROLLER_MANAGER})) as running:
        running.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
        running.kubectl("run", "served", "--image=none")
        account = running.kubectl("get", "pod", "served", "--output=jsonpath={.spec.serviceAccountName}")
        assert account == "default"
    assert [name for name in running.processes.names() if running.processes.alive(name)] == []
