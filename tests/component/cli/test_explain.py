"""`arbiter explain` against a real API server."""

import json
from argparse import Namespace
from pathlib import Path

import yaml

from arbiter_cli import candidates
from hack.cluster.controlplane import ControlPlane
from tests.component.cli.support import NAMESPACE, Arbiter


def test_a_pod_is_explained(arbiter: Arbiter) -> None:
    code, out, err = arbiter("explain", "pod/chat", "-n", NAMESPACE)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:4] == [
        "Quality 0.904, 9256Mi on gpu-1/0, revision 1, applied.",
        "Why not 1.000: full sizes add up to 16.0 GiB, 12.0 are usable. Price 0.356 (High), mode Adaptive.",
        "  team-a/chat     High        floor  4.0  full 10.0  has  9.04 GiB  0.904",
        "  team-a/posters  Background  floor  1.8  full  6.0  has  2.96 GiB  0.493",
    ]
    # The time of the operator's write comes from the API server itself.
    assert lines[4].startswith("Revision 1, ")
    assert lines[4].endswith("s ago: team-a/posters (Background) joined gpu-1/0.")
    assert "  team-a/posters leaves    1.000" in lines
    assert "\x1b" not in out


def test_machines_get_the_same_as_json_and_yaml(arbiter: Arbiter) -> None:
    _, as_json, _ = arbiter("explain", "pod/posters", "-n", NAMESPACE, "-o", "json")
    _, as_yaml, _ = arbiter("explain", "po", "posters", "--namespace", NAMESPACE, "-o", "yaml")
    answer, same = json.loads(as_json), yaml.safe_load(as_yaml)
    assert (answer["quality"], answer["vram"], answer["standing"]) == (0.493, 3028 << 20, "Applied")
    assert answer | {"decided": 0} == same | {"decided": 0}


def test_a_waiting_pod_a_gpu_and_a_node_are_explained(arbiter: Arbiter) -> None:
    _, waits, _ = arbiter("explain", "pod/render", "-n", NAMESPACE)
    assert "needs 10Gi on one GPU; gpu-1/0 has 6Gi, and 10Gi once team-a/chat (High) ends." in waits
    _, gpu, _ = arbiter("explain", "gpu/gpu-1/0")
    _, node, _ = arbiter("explain", "node/gpu-1")
    assert gpu == node
    assert gpu.startswith("gpu-1/0, SIM-12G GPU-0: 2 pods share it, enforcement monitor.\n")


def test_a_deployment_whose_pods_were_refused_is_told_why_and_what_to_do(
    arbiter: Arbiter, control_plane: ControlPlane
) -> None:
    labels = {"app": "caht"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "none"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "caht"}, "spec": spec}
    kubectl = control_plane.kubectl
    kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(deployment))
    made = json.loads(kubectl("get", "deployment", "caht", "-n", NAMESPACE, "-o", "json"))
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "caht", "uid": made["metadata"]["uid"]}
    metadata = {"name": "caht-1", "labels": labels, "ownerReferences": [owner | {"controller": True}]}
    replicas = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec}
    kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(replicas))
    uid = json.loads(kubectl("get", "rs", "caht-1", "-n", NAMESPACE, "-o", "json"))["metadata"]["uid"]
    refusal = 'pod team-a/caht: no GpuAllocation "caht" in namespace team-a; apply it first.'
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "caht-1.1"},
        "involvedObject": {"kind": "ReplicaSet", "namespace": NAMESPACE, "name": "caht-1", "uid": uid},
        "reason": "FailedCreate",
        "message": f'Error creating: admission webhook "pods.arbiter.infernum.io" denied the request: {refusal}',
    }
    kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(event))

    code, out, _ = arbiter("explain", "deploy/caht", "-n", NAMESPACE)

    assert code == 0
    assert out.startswith(f"team-a/caht: Deployment, wants 1 pod, has 0, of them 0 running.\nRefused: {refusal}\ndo: ")


def test_a_name_that_is_not_there_is_one_line_and_exit_code_2(arbiter: Arbiter) -> None:
    answer = arbiter("explain", "pod/caht", "-n", NAMESPACE)
    line = 'arbiter explain: there is no pod/caht in namespace team-a; the nearest name is "chat".\n'
    assert answer == (2, "", line)


def test_who_may_not_look_is_told_which_right_is_missing(arbiter: Arbiter, control_plane: ControlPlane) -> None:
    kubectl = control_plane.kubectl
    kubectl("create", "serviceaccount", "nobody", "-n", NAMESPACE)
    kubeconfig = control_plane.service_account_kubeconfig(NAMESPACE, "nobody")
    code, out, err = arbiter("explain", "pod/chat", "-n", NAMESPACE, kubeconfig=kubeconfig)
    assert (code, out) == (2, "")
    assert 'User "system:serviceaccount:team-a:nobody" cannot get resource "pods"' in err
    assert err.endswith("ask for this right, or use another --context.\n")
    assert err.count("\n") == 1


def test_who_may_read_one_namespace_is_told_what_the_pod_itself_says(
    arbiter: Arbiter, control_plane: ControlPlane
) -> None:
    kubectl = control_plane.kubectl
    kubectl("create", "serviceaccount", "developer", "-n", NAMESPACE)
    kubectl("create", "role", "developer", "--verb=get,list", "--resource=pods,events", "-n", NAMESPACE)
    binding = ("rolebinding", "developer", "--role=developer", f"--serviceaccount={NAMESPACE}:developer")
    kubectl("create", *binding, "-n", NAMESPACE)
    kubeconfig = control_plane.service_account_kubeconfig(NAMESPACE, "developer")
    code, out, err = arbiter("explain", "pod/chat", "-n", NAMESPACE, kubeconfig=kubeconfig)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Quality 0.904, 9256Mi on node gpu-1, revision 1; pressure High, mode Adaptive."
    assert lines[1].endswith("s ago: team-a/posters (Background) joined gpu-1/0.")
    assert lines[2] == "Never below 0.400 (4.0 GiB) while the pod lives."
    assert lines[3].startswith("Its neighbours, and what would change it, cannot be seen: ")
    assert lines[3].endswith("ask for this right, or use another --context.")


def test_a_cluster_that_cannot_be_reached_is_one_sentence(arbiter: Arbiter, tmp_path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "gone",
        "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "me"}}],
        "clusters": [{"name": "gone", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "me", "user": {}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    code, out, err = arbiter("explain", "pod/chat", kubeconfig=path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("arbiter explain: the API server http://127.0.0.1:9 does not answer (")


def test_a_kubeconfig_that_is_none_is_one_sentence(arbiter: Arbiter, tmp_path: Path) -> None:
    code, out, err = arbiter("explain", "pod/chat", kubeconfig=tmp_path / "none")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_the_namespace_is_the_contexts_unless_named(
    arbiter: Arbiter, control_plane: ControlPlane, tmp_path: Path
) -> None:
    config = yaml.safe_load(control_plane.admin_kubeconfig.read_text())
    config["contexts"].append({"name": "b", "context": config["contexts"][0]["context"] | {"namespace": "team-b"}})
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    _, _, current = arbiter("explain", "pod/chat", kubeconfig=path)
    _, _, other = arbiter("explain", "pod/chat", "--context", "b", kubeconfig=path)
    assert "no pod/chat in namespace default" in current
    assert "no pod/chat in namespace team-b" in other


def test_names_are_completed(control_plane: ControlPlane) -> None:
    parsed = Namespace(kubeconfig=control_plane.admin_kubeconfig, context=None, namespace=NAMESPACE)
    assert {*candidates.subjects("pod/", parsed)} == {"pod/chat", "pod/posters", "pod/render"}
    assert candidates.subjects("gpu/", parsed) == ["gpu/gpu-1/0"]
    assert candidates.subjects("node/g", parsed) == ["node/gpu-1"]
    assert NAMESPACE in candidates.namespaces(parsed)
    (context,) = yaml.safe_load(control_plane.admin_kubeconfig.read_text())["contexts"]
    assert candidates.contexts(parsed) == [context["name"]]
    assert candidates.subjects("pod/", Namespace(kubeconfig=Path("/none"), context=None, namespace=None)) == []
