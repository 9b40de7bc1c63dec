import msgspec
import pytest

from arbiter_kube.api.objects import Container, ContainerStatus, Node, ObjectKey, Pod, PodPhase

POD = {
    "kind": "Pod",
    "metadata": {
        "name": "chat-0",
        "namespace": "team-a",
        "uid": "u-1",
        "ownerReferences": [{"kind": "ReplicaSet", "name": "chat", "controller": True}],
        "managedFields": [{"manager": "kubectl"}],
    },
    "spec": {
        "nodeName": "node-1",
        "containers": [
            {"name": "engine", "image": "x", "resources": {"limits": {"arbiter.infernum.io/vram": "4"}}},
            {"name": "proxy", "env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]},
        ],
        "initContainers": [{"name": "sidecar", "restartPolicy": "Always"}],
    },
    "status": {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "engine",
                "containerID": "containerd://abc",
                "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
            }
        ],
    },
}


def read_pod(**status: object) -> Pod:
    return msgspec.json.decode(msgspec.json.encode(POD | ({"status": status} if status else {})), type=Pod)


def test_a_pod_is_read_by_its_names_in_the_api() -> None:
    pod = read_pod()
    assert (pod.key, str(pod.key), pod.uid, pod.node) == (
        ObjectKey("team-a", "chat-0"),
        "team-a/chat-0",
        "u-1",
        "node-1",
    )
    assert pod.metadata.owner_references[0].controller
    assert pod.spec.init_containers == (Container(name="sidecar", restart_policy="Always"),)
    engine = pod.container("engine")
    assert engine is not None
    assert engine.resources.limits == {"arbiter.infernum.io/vram": "4"}
    status = pod.container_status("engine")
    assert status is not None
    assert status.container_id == "containerd://abc"
    assert status.state.running is not None
    assert (pod.container("sidecar"), pod.container_status("proxy")) == (None, None)


def test_what_is_written_is_what_is_read() -> None:
    assert msgspec.json.decode(msgspec.json.encode(read_pod()), type=Pod) == read_pod()


@pytest.mark.parametrize(
    ("phase", "finished"),
    [("Pending", False), ("Running", False), ("Unknown", False), ("Succeeded", True), ("Failed", True)],
)
def test_only_a_final_phase_finishes_a_pod(phase: str, *, finished: bool) -> None:
    assert read_pod(phase=phase).is_finished is finished


def test_a_phase_of_a_later_kubernetes_is_unknown() -> None:
    assert read_pod(phase="Hibernating").status.phase is PodPhase.UNKNOWN


def test_a_pod_that_was_deleted_is_terminating() -> None:
    assert not read_pod().is_terminating
    deleted = POD | {"metadata": {"name": "chat-0", "deletionTimestamp": "2026-01-02T03:04:05Z"}}
    assert msgspec.json.decode(msgspec.json.encode(deleted), type=Pod).is_terminating


def test_an_empty_pod_waits_for_a_node() -> None:
    assert msgspec.json.decode(b'{"spec": {"nodeName": ""}}', type=Pod).node is None
    assert Pod().container_status("any") is None
    assert ContainerStatus().container_id == ""


@pytest.mark.parametrize(("status", "ready"), [("True", True), ("False", False), ("Unknown", False)])
def test_a_node_is_ready_when_its_kubelet_says_so(status: str, *, ready: bool) -> None:
    text = f'{{"metadata": {{"name": "n"}}, "status": {{"conditions": [{{"type": "Ready", "status": "{status}"}}]}}}}'
    assert msgspec.json.decode(text, type=Node).is_ready is ready


def test_an_object_without_namespace_is_its_name() -> None:
    assert str(ObjectKey("", "node-1")) == "node-1"
