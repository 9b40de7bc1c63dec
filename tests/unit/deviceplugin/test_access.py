"""How a container is given its GPUs, as NVIDIA's runtime and the Container Device Interface take it."""

import pytest

from arbiter.ids import GpuUuid
from arbiter_deviceplugin.access import Access, GpuAccess, access

GPUS = (GpuUuid("GPU-a"), GpuUuid("GPU-b"))

ANSWERS = {
    "simulated GPUs are shown to nobody": (None, Access()),
    "a variable names them": (
        GpuAccess.ENVIRONMENT,
        Access(environment=(("NVIDIA_VISIBLE_DEVICES", "GPU-a,GPU-b"),)),
    ),
    "mounts name them, and the variable says where": (
        GpuAccess.VOLUME_MOUNTS,
        Access(
            environment=(("NVIDIA_VISIBLE_DEVICES", "/var/run/nvidia-container-devices"),),
            mounts=(
                ("/var/run/nvidia-container-devices/GPU-a", "/dev/null"),
                ("/var/run/nvidia-container-devices/GPU-b", "/dev/null"),
            ),
        ),
    ),
    "the specification names them, and the variable nothing": (
        GpuAccess.CDI,
        Access(
            environment=(("NVIDIA_VISIBLE_DEVICES", "void"),),
            cdi=("nvidia.com/gpu=GPU-a", "nvidia.com/gpu=GPU-b"),
        ),
    ),
}


@pytest.mark.parametrize(("how", "answer"), ANSWERS.values(), ids=ANSWERS.keys())
def test_what_allocate_answers(how: GpuAccess | None, answer: Access) -> None:
    assert access(how, GPUS) == answer


def test_isolation_is_said_only_where_the_container_cannot_choose() -> None:
    assert {how: how.isolation for how in GpuAccess} == {
        GpuAccess.ENVIRONMENT: "none",
        GpuAccess.VOLUME_MOUNTS: "volume-mounts",
        GpuAccess.CDI: "cdi",
    }
