import json
from pathlib import Path

import pytest

from arbiter.ids import NodeName
from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.resources import GPU_NODES, NODES, PODS
from arbiter_kube.client import Forbidden, Invalid, KubeClient
from hack.cluster.controlplane import ControlPlane
from hack.cluster.errors import CommandError
from tests.component.operator.support import Operator, Site, pod_manifest

FLOOR = (
    "floor 12Gi is larger than full 10Gi; lower arbiter.infernum.io/vram-floor or raise arbiter.infernum.io/vram-full."
)
TENANT = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: everything-with-pods}
rules:
- {apiGroups: [""], resources: [pods, pods/status, pods/binding, bindings], verbs: ["*"]}
- {apiGroups: [arbiter.infernum.io], resources: ["*"], verbs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: everything-with-pods}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: everything-with-pods}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: tenant}]
"""


@pytest.fixture(scope="package")
def tenant(control_plane: ControlPlane) -> Path:
    """Somebody with every right on pods and on Arbiter's resources."""
    control_plane.kubectl("apply", "--filename=-", stdin=TENANT)
    return control_plane.kubeconfig("tenant", ["tenants"])


@pytest.fixture
def namespace(site: Site, operator: Operator, request: pytest.FixtureRequest) -> str:
    name = f"case-{abs(hash(request.node.nodeid)) % 10**10}"
    site.add_namespace(name)
    return name


async def test_a_floor_above_full_is_refused_in_kubectls_reply(site: Site, namespace: str) -> None:
    manifest = pod_manifest("chat", workload_type="LlmInference", vram_full="10Gi", vram_floor="12Gi")
    with pytest.raises(CommandError) as refusal:
        site.kubectl("create", f"--namespace={namespace}", "--filename=-", manifest=manifest)
    assert f"denied the request: pod {namespace}/chat: {FLOOR}" in str(refusal.value)


async def test_an_allocation_that_does_not_exist_is_refused_with_the_nearest_name(site: Site, namespace: str) -> None:
    await site.add_allocation(ObjectKey(namespace, "chat"), workloadType="LlmInference")
    with pytest.raises(CommandError) as refusal:
        site.kubectl(
            "create", f"--namespace={namespace}", "--filename=-", manifest=pod_manifest("x", allocation="caht")
        )
    assert (
        f'pod {namespace}/x: no GpuAllocation "caht" in namespace {namespace}; apply it first. Nearest name: "chat".'
        in str(refusal.value)
    )


@pytest.mark.parametrize("name", ["", ".", "..", "Chat"])
async def test_what_names_no_object_is_refused_as_such(site: Site, namespace: str, name: str) -> None:
    with pytest.raises(CommandError) as refusal:
        site.kubectl("create", f"--namespace={namespace}", "--filename=-", manifest=pod_manifest("x", allocation=name))
    assert f'pod {namespace}/x: no GpuAllocation "{name}" in namespace {namespace}; apply it first.' in str(
        refusal.value
    )


async def test_a_forged_target_is_left_out_with_a_warning(site: Site, namespace: str) -> None:
    manifest = pod_manifest("chat", workload_type="LlmInference", quality_target="1.000")
    with pytest.raises(CommandError) as warned:
        site.kubectl("create", "--warnings-as-errors", f"--namespace={namespace}", "--filename=-", manifest=manifest)
    assert "Warning: arbiter.infernum.io/quality-target is written by Arbiter and was left out; " in str(warned.value)
    pod = await site.pod(ObjectKey(namespace, "chat"))
    assert {*pod.metadata.annotations} == {"arbiter.infernum.io/workload-type", "arbiter.infernum.io/demand"}


async def test_limits_requests_scheduler_and_priority_are_those_of_the_demand(site: Site, namespace: str) -> None:
    pod = await site.add_pod(ObjectKey(namespace, "chat"), workload_type="ImageGeneration", priority="UserFacing")
    resources = pod.spec.containers[0].resources
    assert (resources.limits, resources.requests) == ({"arbiter.infernum.io/vram": "2"},) * 2
    assert (pod.spec.scheduler_name, pod.spec.priority_class_name, pod.spec.priority) == (
        "arbiter-scheduler",
        "arbiter-high",
        4000,
    )
    raw = json.loads(site.kubectl("get", "pod", "chat", f"--namespace={namespace}", "--output=json"))
    assert raw["spec"]["preemptionPolicy"] == "Never"


FORGERIES = {
    "a new target": {"metadata": {"annotations": {"arbiter.infernum.io/quality-target": "1.000"}}},
    "another demand": {"metadata": {"annotations": {"arbiter.infernum.io/demand": "{}"}}},
    "no demand": {"metadata": {"annotations": {"arbiter.infernum.io/demand": None}}},
    "other GPUs": {"metadata": {"annotations": {"arbiter.infernum.io/gpus": "GPU-9"}}},
    "a nomination": {"metadata": {"annotations": {"arbiter.infernum.io/nominated": "x"}}},
}


@pytest.mark.parametrize("subresource", [None, "status"])
@pytest.mark.parametrize("patch", FORGERIES.values(), ids=FORGERIES)
async def test_a_tenant_cannot_change_what_arbiter_wrote(
    site: Site, namespace: str, tenant: Path, patch: dict[str, object], subresource: str | None
) -> None:
    await site.add_pod(ObjectKey(namespace, "chat"), workload_type="LlmInference")
    async with await KubeClient.connect(tenant, component="tenant") as client:
        with pytest.raises((Forbidden, Invalid), match=r"is written by Arbiter alone; leave it as it is\."):
            await client.patch(PODS, "chat", patch, namespace=namespace, subresource=subresource)


async def test_where_nobody_freezes_demands_nobody_brings_one(site: Site, operator: Operator) -> None:
    forged = pod_manifest("forged", demand='{"version":1,"priority":"Low"}')
    with pytest.raises((Forbidden, Invalid), match=r"arbiter\.infernum\.io/demand is written by Arbiter alone"):
        await site.admin.create(PODS, forged, namespace="kube-system")
    pod = await site.admin.create(PODS, pod_manifest("plain"), namespace="kube-system")
    await site.end(pod)


async def test_a_tenant_cannot_bind_a_pod_to_gpus(site: Site, namespace: str, tenant: Path) -> None:
    pod = await site.add_pod(ObjectKey(namespace, "chat"), workload_type="LlmInference")
    async with await KubeClient.connect(tenant, component="tenant") as client:
        with pytest.raises((Forbidden, Invalid), match=r"arbiter\.infernum\.io/gpus is written by Arbiter alone"):
            await client.bind(pod.key, uid=pod.uid, node=NodeName("gpu-9"), annotations={a.GPUS: "GPU-9"})


async def test_a_tenants_own_annotations_stay_its_own(site: Site, namespace: str, tenant: Path) -> None:
    await site.add_pod(ObjectKey(namespace, "chat"), workload_type="LlmInference")
    async with await KubeClient.connect(tenant, component="tenant") as client:
        mine = {"metadata": {"annotations": {"example.com/mine": "x"}}}
        pod = await client.patch(PODS, "chat", mine, namespace=namespace)
    assert pod.metadata.annotations["example.com/mine"] == "x"


async def test_only_the_agent_of_a_node_writes_its_gpu_node(site: Site, operator: Operator, tenant: Path) -> None:
    async with site.node("agent-a", usable=12288), site.agent("agent-a") as agent:
        await site.admin.create(NODES, {"metadata": {"name": "agent-b"}})
        with pytest.raises((Forbidden, Invalid), match=r"GpuNode agent-b .* this token is of node agent-a\."):
            await agent.create(GPU_NODES, {"metadata": {"name": "agent-b"}})
        await site.admin.create(GPU_NODES, {"metadata": {"name": "agent-b"}})
        forged = {"status": {"unit": 1}}
        with pytest.raises((Forbidden, Invalid), match=r"GpuNode agent-b .* this token is of node agent-a\."):
            await agent.patch(GPU_NODES, "agent-b", forged, subresource="status")
        async with await KubeClient.connect(tenant, component="tenant") as client:
            with pytest.raises((Forbidden, Invalid), match="The status of GpuNode agent-a is written by the agent"):
                await client.patch(GPU_NODES, "agent-a", forged, subresource="status")
        await site.admin.delete(GPU_NODES, "agent-b")
        await site.admin.delete(NODES, "agent-b")


async def test_a_token_of_no_node_writes_no_gpu_node(
    site: Site, operator: Operator, control_plane: ControlPlane
) -> None:
    stolen = control_plane.service_account_kubeconfig("arbiter-system", "arbiter-device-plugin")
    async with await KubeClient.connect(stolen, component="agent") as client:
        with pytest.raises((Forbidden, Invalid), match=r"GpuNode n .* this token is of no node\."):
            await client.create(GPU_NODES, {"metadata": {"name": "n"}})


async def test_a_namespaces_pods_are_at_most_as_important_as_its_label_says(site: Site, namespace: str) -> None:
    early = ObjectKey(namespace, "early")
    await site.add_allocation(early, workloadType="LlmInference", priority="Critical")
    site.kubectl("label", "namespace", namespace, "arbiter.infernum.io/max-priority=Normal")
    refused = f"above Normal, the highest of namespace {namespace}; ask for less"
    with pytest.raises(Forbidden, match=f"priority Critical is {refused}"):
        await site.add_pod(ObjectKey(namespace, "of-early"), allocation="early")
    with pytest.raises(Forbidden, match=f"priority High is {refused}"):
        await site.add_pod(ObjectKey(namespace, "inline"), workload_type="LlmInference", priority="UserFacing")
    with pytest.raises(Forbidden, match=rf"spec\.priority High is {refused}"):
        await site.add_allocation(ObjectKey(namespace, "late"), workloadType="LlmInference", priority="UserFacing")
    assert (await site.add_pod(ObjectKey(namespace, "normal"), workload_type="LlmInference")).uid
