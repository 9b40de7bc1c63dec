"""Mistakes are answered in one sentence where the person looks first: kubectl's reply, or event and condition."""

import pytest

from hack.cluster.cluster import Cluster
from hack.cluster.errors import CommandError
from hack.observe import Observer
from tests.cluster.workloads import Workload, as_yaml

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

NODES, GPUS = 1, "12Gi"

A = "arbiter.infernum.io"
CHAT = Workload(name="mistaken", full="10Gi", floor="4Gi")


def pod_with(annotations: dict[str, str]) -> str:
    """A pod of the simulated engine with these annotations instead."""
    pod = CHAT.pod
    pod["metadata"]["annotations"] = annotations
    return as_yaml(pod)


def allocation_with(**spec: object) -> str:
    """A GpuAllocation with these fields instead."""
    allocation = CHAT.allocation
    allocation["spec"] |= spec
    return as_yaml(allocation)


INLINE = {f"{A}/workload-type": "LlmInference", f"{A}/vram-full": "10Gi"}

REFUSED = {
    "an allocation's floor above its full size": (
        allocation_with(vram={"full": "10Gi", "floor": "12Gi"}),
        "floor 12Gi is larger than full 10Gi; lower spec.vram.floor or raise spec.vram.full",
    ),
    "an unknown type": (
        allocation_with(workloadType="Poetry"),
        'spec.workloadType: Unsupported value: "Poetry": supported values: "LlmInference"',
    ),
    "a size of ten": (
        allocation_with(vram={"full": "ten"}),
        "'ten' is no size: write a number with a unit, such as 10Gi or 1843Mi",
    ),
    "a pod's floor above its full size": (
        pod_with(INLINE | {f"{A}/vram-floor": "12Gi"}),
        f"pod default/mistaken: floor 12Gi is larger than full 10Gi; lower {A}/vram-floor or raise {A}/vram-full.",
    ),
    "a pod's unknown type": (
        pod_with(INLINE | {f"{A}/workload-type": "Poetry"}),
        f'pod default/mistaken: {A}/workload-type "Poetry" is unknown; write one of LlmInference',
    ),
    "a pod's size of ten": (
        pod_with(INLINE | {f"{A}/vram-full": "ten"}),
        f'pod default/mistaken: {A}/vram-full: "ten" is no size; write a number with a unit, such as 10Gi or 1843Mi.',
    ),
    "an allocation that does not exist": (
        pod_with({f"{A}/allocation": "caht"}),
        'pod default/mistaken: no GpuAllocation "caht" in namespace default; apply it first. Nearest name: "chat".',
    ),
}


@pytest.mark.parametrize(("manifest", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_kubectl_answers_with_one_sentence(cluster: Cluster, manifest: str, sentence: str) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=as_yaml(CHAT.asking(name="chat").allocation))
    with pytest.raises(CommandError) as refused:
        cluster.kubectl("apply", "-f", "-", stdin=manifest)
    assert sentence in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_a_target_that_somebody_wrote_is_left_out_with_a_warning(cluster: Cluster) -> None:
    workload = CHAT.asking(name="forger")
    pod = workload.pod
    pod["metadata"]["annotations"][f"{A}/quality-target"] = "1.000"
    cluster.kubectl("apply", "-f", "-", stdin=as_yaml(workload.allocation))

    with pytest.raises(CommandError) as warned:
        cluster.kubectl("apply", "--warnings-as-errors", "-f", "-", stdin=as_yaml(pod))

    assert (
        f"Warning: {A}/quality-target is written by Arbiter and was left out; "
        f"to ask for a minimum write {A}/quality-minimum." in str(warned.value)
    )
    with pytest.raises(CommandError, match=rf"{A}/quality-target"):
        cluster.kubectl("annotate", "pod", workload.name, "--overwrite", f"{A}/quality-target=0.999")
    cluster.kubectl("delete", "pod,gpua", workload.name, "--timeout=60s")


def test_a_floor_larger_than_any_gpu_waits_and_says_so(cluster: Cluster) -> None:
    workload = CHAT.asking(name="huge", full="40Gi", floor="30Gi")
    cluster.kubectl("apply", "-f", "-", stdin=workload.manifest)
    observer = Observer(cluster)
    message = observer.wait(
        "the reason", lambda: observer.event("default", "huge", "VramWaiting"), component="operator"
    )
    assert message.startswith("needs 30Gi on one GPU; ")
    described = observer.wait(
        "the allocation's word",
        lambda: text if "Waiting" in (text := cluster.kubectl("describe", "gpua", "huge")) else None,
        component="operator",
    )
    assert "needs 30Gi on one GPU" in described
    cluster.kubectl("delete", "pod,gpua", workload.name, "--timeout=60s")
