from datetime import UTC, datetime

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from arbiter.ids import GpuUuid, NodeName
from arbiter.units import GIB
from arbiter_kube.api import SCHEDULER_NAME, VRAM_RESOURCE
from arbiter_kube.api import annotations as a
from arbiter_kube.api.gpuallocation import GpuAllocationStatus
from arbiter_kube.api.gpunode import GpuNode
from arbiter_kube.api.objects import Condition
from arbiter_operator.cluster import Cluster
from arbiter_operator.metrics import ClusterCollector
from tests.unit.operator.builders import allocation, gpu_pod, on_node, report, target
from tests.unit.operator.test_cluster import filled, pod, ready_node

PRICES = {(NodeName("gpu-1"), GpuUuid("GPU-0")): 0.356}


def reduced() -> Cluster:
    """chat-0 is told 0.904 and has applied it; chat-1 waits, and a queue holds chat-2 back."""
    cluster = filled()
    node, waits = ready_node(), pod("chat-1", node=None)
    cluster.node_applied(replace(node, status=replace(node.status, allocatable={VRAM_RESOURCE: "12"})))
    created = replace(waits.metadata, creation_timestamp=datetime.fromtimestamp(1_700_000_000, UTC))
    cluster.pod_applied(replace(waits, metadata=created, spec=replace(waits.spec, scheduler_name=SCHEDULER_NAME)))
    gated, held = pod("chat-2", node=None), Condition(type="PodScheduled", status="False", reason="SchedulingGated")
    spec, behind = replace(gated.spec, scheduler_name=SCHEDULER_NAME), replace(gated.status, conditions=(held,))
    cluster.pod_applied(replace(gated, spec=spec, status=behind))
    told = a.target_annotations(target("0.904", 9256)) | {a.GPUS: "GPU-0"}
    cluster.pod_applied(pod(version=2, **{key.partition("/")[2]: value for key, value in told.items()}))
    status = report(on_node(gpu_pod(), 9256, quality=0.904)).model_dump(by_alias=True)
    cluster.report_applied(GpuNode.model_validate({"metadata": {"name": "gpu-1"}, "status": status}))
    cluster.allocation_applied(allocation().model_copy(update={"status": GpuAllocationStatus(phase="Reduced")}))
    return cluster


def scraped(*, leading: bool) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(ClusterCollector(reduced(), prices=lambda: PRICES, leading=lambda: leading))
    samples = (sample for family in registry.collect() for sample in family.samples)
    return {f"{sample.name} {' '.join(sample.labels.values())}".strip(): sample.value for sample in samples}


def test_the_leader_tells_what_is_so() -> None:
    assert scraped(leading=True) == {
        "arbiter_operator_leading": 1,
        "arbiter_gpu_price gpu-1 GPU-0": 0.356,
        "arbiter_node_allocatable_bytes gpu-1": 12 * GIB,
        "arbiter_quality_target team-a chat-0": 0.904,
        "arbiter_quality_applied team-a chat-0": 0.904,
        "arbiter_quality_minimum team-a chat-0": 0.4,
        "arbiter_allocations Pending": 0,
        "arbiter_allocations Waiting": 0,
        "arbiter_allocations Running": 0,
        "arbiter_allocations Reduced": 1,
        "arbiter_allocations Preempted": 0,
        "arbiter_pod_waiting_since_timestamp_seconds team-a chat-1": 1_700_000_000,
    }


def test_a_replica_that_follows_tells_only_that_it_does() -> None:
    assert scraped(leading=False) == {"arbiter_operator_leading": 0}
