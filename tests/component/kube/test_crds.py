"""The CRDs on a real API server: accepted, and refusing nonsense with the sentence that was written for it."""

from typing import Any

import pytest
import yaml

from arbiter_kube.api.crds import DEFINITIONS, manifests
from arbiter_kube.api.gpuallocation import GpuAllocation, GpuAllocationSpec
from arbiter_kube.api.resources import GPU_ALLOCATIONS, GPU_NODES, QUALITY_POLICIES, Resource
from arbiter_kube.client import Invalid, KubeClient, PatchType
from hack.cluster.controlplane import ControlPlane
from tests.support.snippets import ROOT, sections

EXAMPLES = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "examples").rglob("*.yaml"))}
ON_PAGES = {
    f"{page.name}, line {block.line}": block.text
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for section in sections(page)
    for block in section.blocks
    if block.mark == "yaml" and "apiVersion:" in block.text and block.title not in EXAMPLES
}


@pytest.fixture(autouse=True, scope="module")
def crds(control_plane: ControlPlane) -> None:
    """They stay, since the control plane is every module's."""
    control_plane.kubectl("apply", "--filename=-", stdin="---\n".join(manifests().values()))
    names = [f"crd/{definition.resource.plural}.{definition.resource.group}" for definition in DEFINITIONS]
    control_plane.kubectl("wait", "--for=condition=Established", *names, "--timeout=60s")


@pytest.fixture(scope="module")
def namespaces(control_plane: ControlPlane) -> None:
    """Those of the examples."""
    documents = (one for text in (EXAMPLES | ON_PAGES).values() for one in yaml.safe_load_all(text))
    names = {one["metadata"].get("namespace", "default") for one in documents}
    made = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in sorted(names)]
    control_plane.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(made))


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("manifest", (EXAMPLES | ON_PAGES).values(), ids=EXAMPLES | ON_PAGES)
def test_the_examples_are_accepted(control_plane: ControlPlane, manifest: str) -> None:
    control_plane.kubectl("apply", "--filename=-", "--dry-run=server", "--validate=strict", stdin=manifest)


NONSENSE: dict[str, tuple[Resource[Any], dict[str, Any], str]] = {
    "no workload type": (GPU_ALLOCATIONS, {}, r"spec\.workloadType: Required value"),
    "an unknown workload type": (
        GPU_ALLOCATIONS,
        {"workloadType": "Chess"},
        r'spec\.workloadType: Unsupported value: "Chess": supported values: "LlmInference"',
    ),
    "a size without sense": (
        GPU_ALLOCATIONS,
        {"workloadType": "LlmInference", "vram": {"full": "ten"}},
        r"spec\.vram\.full: .*'ten' is no size: write a number with a unit, such as 10Gi or 1843Mi",
    ),
    "a size of nothing": (
        GPU_ALLOCATIONS,
        {"workloadType": "LlmInference", "vram": {"full": 0}},
        r"spec\.vram\.full: .*'0' is no size",
    ),
    "a floor above full": (
        GPU_ALLOCATIONS,
        {"workloadType": "LlmInference", "vram": {"full": "4Gi", "floor": "10Gi"}},
        r"spec\.vram: .*floor 10Gi is larger than full 4Gi; lower spec\.vram\.floor or raise spec\.vram\.full",
    ),
    "a level beyond quality": (
        GPU_ALLOCATIONS,
        {"workloadType": "LlmInference", "vram": {"levels": [{"quality": 2, "vram": "1Gi"}]}},
        r"spec\.vram\.levels\[0\]\.quality: .*less than or equal to 1",
    ),
    "a minimum above the maximum": (
        GPU_ALLOCATIONS,
        {"workloadType": "LlmInference", "quality": {"minimum": 0.9, "maximum": 0.5}},
        r"spec\.quality: .*spec\.quality\.minimum is above spec\.quality\.maximum; lower the minimum or raise",
    ),
    "a quality of nothing": (
        GPU_ALLOCATIONS,
        {"workloadType": "LlmInference", "quality": {"minimum": 0}},
        r"spec\.quality\.minimum: .*greater than 0",
    ),
    "a grace without unit": (
        GPU_ALLOCATIONS,
        {"workloadType": "LlmInference", "shrinkGrace": "30"},
        r"spec\.shrinkGrace: Invalid value",
    ),
    "too many GPUs": (
        GPU_ALLOCATIONS,
        {"workloadType": "LlmInference", "gpuCount": 17},
        r"spec\.gpuCount: .*less than or equal to 16",
    ),
    "a field for every node in a policy for some": (
        QUALITY_POLICIES,
        {"nodeSelector": {"a": "b"}, "preemption": True},
        r"spec: .*spec\.preemption is needed before a pod's node is known: write it in a policy without a nodeSelector",
    ),
    "a threshold beyond everything": (
        QUALITY_POLICIES,
        {"pressureThreshold": 2},
        r"spec\.pressureThreshold: .*less than or equal to 1",
    ),
    "an unknown mode": (QUALITY_POLICIES, {"mode": "Fair"}, r"spec\.mode: Unsupported value"),
}


@pytest.mark.parametrize(("resource", "spec", "sentence"), NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_refused_with_a_sentence(
    client: KubeClient, namespace: str, resource: Resource[Any], spec: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Invalid, match=sentence):
        await client.create(
            resource,
            {"metadata": {"name": "nonsense"}, "spec": spec},
            namespace=namespace if resource.namespaced else None,
        )


UNREADABLE = ("+10Gi", "1000000000n", "1000000000u", "4Ei", "1e30", "1e009", "1e-3", "500m", "0", "-1")


@pytest.mark.parametrize("size", UNREADABLE)
async def test_a_size_that_no_process_could_read_is_refused(client: KubeClient, namespace: str, size: str) -> None:
    body = {"metadata": {"name": "chat"}, "spec": {"workloadType": "LlmInference", "vram": {"full": size}}}
    with pytest.raises(Invalid, match="is no size: write a number with a unit, such as 10Gi"):
        await client.create(GPU_ALLOCATIONS, body, namespace=namespace)


READABLE = ("1", "1500", "10Gi", "1843Mi", "1.5Gi", "500M", "1e9", "12E-1", "3Ei", "4000m", "3k", "2Ki")


@pytest.mark.parametrize("size", READABLE)
async def test_a_size_that_is_taken_can_be_read(client: KubeClient, namespace: str, size: str) -> None:
    body = {"metadata": {"name": "chat"}, "spec": {"workloadType": "LlmInference", "vram": {"full": size}}}
    assert (await client.create(GPU_ALLOCATIONS, body, namespace=namespace)).spec.vram.full == size


async def test_what_is_left_out_has_the_models_defaults(client: KubeClient, namespace: str) -> None:
    body = {"metadata": {"name": "chat"}, "spec": {"workloadType": "LlmInference", "vram": {"floor": None}}}
    made = await client.create(GPU_ALLOCATIONS, body, namespace=namespace)
    assert made.spec == GpuAllocationSpec(workload_type="LlmInference")


async def test_a_whole_number_is_a_size_too(client: KubeClient, namespace: str) -> None:
    body = {"metadata": {"name": "chat"}, "spec": {"workloadType": "LlmInference", "vram": {"full": 1 << 33}}}
    made = await client.create(GPU_ALLOCATIONS, body, namespace=namespace)
    assert made.spec.vram.full == "8589934592"


async def test_the_model_itself_can_be_written(client: KubeClient, namespace: str) -> None:
    body = {"metadata": {"name": "chat"}, "spec": GpuAllocationSpec(workload_type="ImageGeneration", gpu_count=2)}
    made = await client.create(GPU_ALLOCATIONS, body, namespace=namespace)
    assert isinstance(made, GpuAllocation)
    assert made.spec == body["spec"]


async def test_a_status_is_applied_beside_the_spec(client: KubeClient) -> None:
    await client.create(GPU_NODES, {"metadata": {"name": "node-1"}})
    grants = [{"podUID": "u-1", "namespace": "a", "pod": "p", "container": "c", "held": 1 << 34, "state": "Held"}]
    patched = await client.patch(
        GPU_NODES,
        "node-1",
        {"status": {"unit": 1 << 30, "grants": grants}},
        subresource="status",
        kind=PatchType.APPLY,
    )
    assert (patched.status.unit, patched.status.grants[0].held) == (1 << 30, 1 << 34)
    await client.delete(GPU_NODES, "node-1")


def test_kubectl_prints_the_columns(control_plane: ControlPlane) -> None:
    allocation = {
        "apiVersion": "arbiter.infernum.io/v1alpha1",
        "kind": "GpuAllocation",
        "metadata": {"name": "printed", "namespace": "default"},
        "spec": {"workloadType": "LlmInference", "priority": "High"},
    }
    control_plane.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(allocation))
    status = (
        '{"status": {"phase": "Reduced", "pods": "1/1", "quality": 0.904,'
        ' "resolved": {"full": "10Gi", "floor": "4Gi", "minimum": 0.4, "maximum": 1.0}}}'
    )
    control_plane.kubectl("patch", "gpua", "printed", "--subresource=status", "--type=merge", f"--patch={status}")
    header, row = control_plane.kubectl("get", "gpua", "printed").splitlines()
    assert header.split() == ["NAME", "TYPE", "PRIORITY", "FULL", "FLOOR", "PODS", "QUALITY", "PHASE", "AGE"]
    assert row.split()[:-1] == ["printed", "LlmInference", "High", "10Gi", "4Gi", "1/1", "0.904", "Reduced"]
