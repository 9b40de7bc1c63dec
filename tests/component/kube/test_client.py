"""The client's verbs against a real API server."""

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from arbiter.ids import NodeName, PodUid
from arbiter_kube.api.objects import Lease, LeaseSpec, ObjectKey, ObjectMeta, Pod
from arbiter_kube.api.resources import LEASES, NAMESPACES, NODE_METADATA, NODES, PODS
from arbiter_kube.client import (
    ApiError,
    Conflict,
    EvictionRefused,
    Forbidden,
    Invalid,
    KubeClient,
    NotFound,
    PatchType,
    Unreachable,
)
from arbiter_kube.client.client import Selection
from arbiter_kube.client.credentials import service_account
from hack.cluster.controlplane import ControlPlane


async def make_pod(client: KubeClient, namespace: str, name: str = "pod", **metadata: object) -> Pod:
    body = {"metadata": {"name": name, **metadata}, "spec": {"containers": [{"name": "main", "image": "none"}]}}
    return await client.create(PODS, body, namespace=namespace)


async def test_a_created_object_is_read_back(client: KubeClient, namespace: str) -> None:
    made = await make_pod(client, namespace, labels={"app": "chat"})
    assert made.key == ObjectKey(namespace, "pod")
    assert made.metadata.labels == {"app": "chat"}
    assert await client.get(PODS, "pod", namespace=namespace) == made


async def test_a_model_is_written_as_it_is_read(client: KubeClient, namespace: str) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
    lease = Lease(
        metadata=ObjectMeta(name="leader"),
        spec=LeaseSpec(holder_identity="a", lease_duration_seconds=15, acquire_time=now, renew_time=now),
    )
    made = await client.create(LEASES, lease, namespace=namespace)
    assert made.spec == lease.spec


async def test_a_list_keeps_to_its_selectors(client: KubeClient, namespace: str) -> None:
    for name, app in (("a", "chat"), ("b", "chat"), ("c", "render")):
        await make_pod(client, namespace, name, labels={"app": app})
    pods = await client.list(PODS, namespace=namespace, label_selector="app=chat", field_selector="metadata.name!=b")
    assert [pod.metadata.name for pod in pods] == ["a"]


async def test_the_api_server_is_asked_for_the_pods_port_and_refuses_one_without_address(
    client: KubeClient, namespace: str
) -> None:
    pod = await make_pod(client, namespace)
    with pytest.raises(ApiError, match=r"BadRequest: address not allowed$"):
        await client.ask_pod(pod.key, port=8080, path="/metrics", within=2)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (PatchType.MERGE, {"metadata": {"annotations": {"a": "b"}}}),
        (PatchType.JSON, [{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}]),
        (PatchType.APPLY, {"metadata": {"annotations": {"a": "b"}}}),
    ],
)
async def test_every_kind_of_patch_changes_the_object(
    client: KubeClient, namespace: str, kind: PatchType, body: object
) -> None:
    await make_pod(client, namespace)
    patched = await client.patch(PODS, "pod", body, namespace=namespace, kind=kind)
    assert patched.metadata.annotations == {"a": "b"}


async def test_a_subresource_is_patched_alone(client: KubeClient, namespace: str) -> None:
    await make_pod(client, namespace)
    change = {"spec": {"nodeName": "not-taken"}, "status": {"phase": "Succeeded"}}
    patched = await client.patch(PODS, "pod", change, namespace=namespace, subresource="status")
    assert patched.is_finished
    assert patched.node is None


async def test_a_patch_of_an_older_version_conflicts(client: KubeClient, namespace: str) -> None:
    made = await make_pod(client, namespace)
    change = {"metadata": {"resourceVersion": made.metadata.resource_version, "labels": {"a": "b"}}}
    await client.patch(PODS, "pod", change, namespace=namespace)
    change = {"metadata": {"resourceVersion": made.metadata.resource_version, "labels": {"a": "c"}}}
    with pytest.raises(Conflict, match=rf"^patch pods {namespace}/pod: 409 Conflict: .*modified"):
        await client.patch(PODS, "pod", change, namespace=namespace)


async def test_an_applied_field_is_taken_over_by_force_only(
    client: KubeClient, namespace: str, control_plane: ControlPlane
) -> None:
    await make_pod(client, namespace)
    await client.patch(PODS, "pod", {"metadata": {"labels": {"a": "b"}}}, namespace=namespace, kind=PatchType.APPLY)
    async with await KubeClient.connect(control_plane.admin_kubeconfig, component="other") as other:
        change = {"metadata": {"labels": {"a": "c"}}}
        with pytest.raises(Conflict, match="conflict with"):
            await other.patch(PODS, "pod", change, namespace=namespace, kind=PatchType.APPLY)
        patched = await other.patch(PODS, "pod", change, namespace=namespace, kind=PatchType.APPLY, force=True)
    assert patched.metadata.labels == {"a": "c"}


async def run(client: KubeClient, pod: Pod) -> Pod:
    """Bind it and say that it runs, as a kubelet would."""
    await client.bind(pod.key, uid=pod.uid, node=NodeName("node-1"), annotations={})
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    return await client.patch(PODS, pod.metadata.name, ready, namespace=pod.metadata.namespace, subresource="status")


async def test_a_pod_is_bound_with_annotations_in_one_step(client: KubeClient, namespace: str) -> None:
    pod = await make_pod(client, namespace, annotations={"before": "1"})
    await client.bind(pod.key, uid=pod.uid, node=NodeName("node-1"), annotations={"arbiter/gpus": "GPU-1"})
    bound = await client.get(PODS, "pod", namespace=namespace)
    assert bound.node == "node-1"
    assert bound.metadata.annotations == {"before": "1", "arbiter/gpus": "GPU-1"}


async def test_a_bound_pod_is_not_bound_again(client: KubeClient, namespace: str) -> None:
    pod = await make_pod(client, namespace)
    await client.bind(pod.key, uid=pod.uid, node=NodeName("node-1"), annotations={})
    with pytest.raises(Conflict, match=rf'^bind pods {namespace}/pod: .*already assigned to node "node-1"'):
        await client.bind(pod.key, uid=pod.uid, node=NodeName("node-2"), annotations={})


async def test_a_pod_that_was_recreated_is_neither_bound_nor_evicted_nor_deleted(
    client: KubeClient, namespace: str
) -> None:
    pod = await make_pod(client, namespace)
    former = PodUid("00000000-0000-0000-0000-000000000000")
    with pytest.raises(Conflict):
        await client.bind(pod.key, uid=former, node=NodeName("node-1"), annotations={})
    running = await run(client, pod)  # the API server tries for 10 s to evict one that does not run
    with pytest.raises(Conflict):
        await client.evict(pod.key, uid=former)
    with pytest.raises(Conflict):
        await client.delete(PODS, "pod", namespace=namespace, uid=former)
    assert await client.get(PODS, "pod", namespace=namespace) == running


async def test_an_evicted_pod_is_deleted(client: KubeClient, namespace: str) -> None:
    pod = await make_pod(client, namespace)
    await client.evict(pod.key, uid=pod.uid)
    with pytest.raises(NotFound):
        await client.get(PODS, "pod", namespace=namespace)


async def test_a_protected_pod_is_not_evicted(client: KubeClient, namespace: str, control_plane: ControlPlane) -> None:
    pod = await make_pod(client, namespace, labels={"app": "chat"})
    await run(client, pod)
    control_plane.kubectl(
        "create", "poddisruptionbudget", "all", f"--namespace={namespace}", "--selector=app=chat", "--min-available=1"
    )
    with pytest.raises(EvictionRefused, match=rf"^evict pods {namespace}/pod: 429"):
        await client.evict(pod.key, uid=pod.uid)
    control_plane.kubectl(
        "create", "poddisruptionbudget", "too", f"--namespace={namespace}", "--selector=app=chat", "--min-available=1"
    )
    with pytest.raises(EvictionRefused, match=rf"^evict pods {namespace}/pod: 500"):
        await client.evict(pod.key, uid=pod.uid)


async def test_a_deleted_object_is_gone(client: KubeClient, namespace: str) -> None:
    pod = await make_pod(client, namespace)
    await client.delete(PODS, "pod", namespace=namespace, uid=pod.uid, grace=0)
    with pytest.raises(NotFound, match=rf'^get pods {namespace}/pod: 404 NotFound: pods "pod" not found'):
        await client.get(PODS, "pod", namespace=namespace)


async def test_a_taken_name_conflicts(client: KubeClient, namespace: str) -> None:
    with pytest.raises(Conflict, match=r"^create namespaces: 409 AlreadyExists"):
        await client.create(NAMESPACES, {"metadata": {"name": namespace}})


async def test_nonsense_is_invalid(client: KubeClient, namespace: str) -> None:
    with pytest.raises(Invalid, match=r"^create pods .*: 422 Invalid: .*spec.containers: Required value"):
        await client.create(PODS, {"metadata": {"name": "pod"}, "spec": {"containers": []}}, namespace=namespace)


async def test_a_user_without_rights_is_forbidden(control_plane: ControlPlane, namespace: str) -> None:
    async with await KubeClient.connect(control_plane.kubeconfig("nobody"), component="test") as client:
        with pytest.raises(Forbidden, match=r'^list nodes: 403 Forbidden: .*"nobody" cannot list resource "nodes"'):
            await client.list(NODES)


async def test_a_service_account_is_found_where_kubelet_mounts_it(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    control_plane.kubectl("create", "serviceaccount", "agent", f"--namespace={namespace}")
    control_plane.kubectl("create", "role", "reader", f"--namespace={namespace}", "--verb=list", "--resource=pods")
    control_plane.kubectl(
        "create",
        "rolebinding",
        "agent",
        f"--namespace={namespace}",
        "--role=reader",
        f"--serviceaccount={namespace}:agent",
    )
    (tmp_path / "ca.crt").write_bytes(control_plane.authority.certificate)
    (tmp_path / "token").write_text(control_plane.kubectl("create", "token", "agent", f"--namespace={namespace}"))
    environment = {
        "KUBERNETES_SERVICE_HOST": control_plane.place.address,
        "KUBERNETES_SERVICE_PORT": str(control_plane.place.ports.apiserver),
    }
    async with KubeClient(service_account(tmp_path, environment), component="test") as client:
        assert await client.list(PODS, namespace=namespace) == ()


async def test_a_credential_plugin_gives_the_token(
    control_plane: ControlPlane, client: KubeClient, namespace: str, tmp_path: Path
) -> None:
    control_plane.kubectl("create", "serviceaccount", "person", f"--namespace={namespace}")
    token = control_plane.kubectl("create", "token", "person", f"--namespace={namespace}").strip()
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token, "expirationTimestamp": "2999-01-01T00:00:00Z"},
    }
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(credential)}'\n")
    plugin.chmod(0o755)
    config = yaml.safe_load(control_plane.admin_kubeconfig.read_text())
    execute = {"apiVersion": credential["apiVersion"], "command": str(plugin), "interactiveMode": "Never"}
    config["users"][0]["user"] = {"exec": execute}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    async with await KubeClient.connect(tmp_path / "kubeconfig", component="test") as person:
        with pytest.raises(Forbidden, match=f'"system:serviceaccount:{namespace}:person" cannot list'):
            await person.list(NODES)


async def test_reading_waits_for_an_api_server_that_restarts(
    control_plane: ControlPlane, client: KubeClient, namespace: str
) -> None:
    control_plane.stop_apiserver()
    with pytest.raises(Unreachable, match=rf"^get namespaces {namespace}: no answer from the API server: ") as caught:
        await client.get(NAMESPACES, namespace, within=0.5)
    assert caught.value.never_sent
    reading = asyncio.create_task(client.get(NAMESPACES, namespace, within=60))
    await asyncio.sleep(0.2)
    control_plane.start_apiserver()  # not in a thread: the server would end with it
    assert (await reading).metadata.name == namespace


async def test_of_a_node_that_only_metadata_is_read_of_nothing_else_is_sent(client: KubeClient) -> None:
    images = [{"names": [f"registry/{number}"], "sizeBytes": 1} for number in range(50)]
    before = await client.page(NODE_METADATA, Selection())
    await client.create(NODES, {"metadata": {"name": "full", "labels": {"pool": "a"}}})
    await client.patch(NODES, "full", {"status": {"images": images}}, subresource="status")

    only = Selection(field_selector="metadata.name=full")
    listed = (await client.page(NODE_METADATA, only)).items or []
    watched = client.watch(NODE_METADATA, only, resource_version=before.metadata.resource_version, lasting=30, idle=30)
    async with aclosing(watched):
        lines = [await anext(watched) for _ in range(2)]
    for text in (*listed, *lines):
        assert b'"pool":"a"' in bytes(text)
        assert b"registry/7" not in bytes(text)
    whole = (await client.page(NODES, only)).items or []
    assert b"registry/7" in bytes(whole[0])
    await client.delete(NODES, "full")
