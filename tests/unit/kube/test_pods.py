import pytest

from arbiter.units import GIB
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api.objects import Container, Pod, PodSpec, ResourceRequirements
from arbiter_kube.api.pods import gpu_pod

WRITTEN = {"4": 4, "1k": 1000, "1Ki": 1024, "1M": 1_000_000, "1e3": 1000}


@pytest.mark.parametrize(("text", "slices"), WRITTEN.items())
def test_slices_are_read_however_they_are_written(text: str, slices: int) -> None:
    container = Container(name="main", resources=ResourceRequirements(limits={VRAM_RESOURCE: text}))
    pod = gpu_pod(Pod(spec=PodSpec(containers=(container,))), unit=GIB)
    assert pod is not None
    assert pod.slices == slices


@pytest.mark.parametrize("limits", [{}, {VRAM_RESOURCE: "0"}, {"cpu": "1"}])
def test_a_pod_without_slices_is_none_of_ours(limits: dict[str, str]) -> None:
    container = Container(name="main", resources=ResourceRequirements(limits=limits))
    assert gpu_pod(Pod(spec=PodSpec(containers=(container,))), unit=GIB) is None
