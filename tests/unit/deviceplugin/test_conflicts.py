"""Who else offers the GPUs."""

from arbiter_deviceplugin.conflicts import foreign_offers


def test_others_offers_of_the_same_gpus_are_found() -> None:
    allocatable = {
        "cpu": "8",
        "arbiter.infernum.io/vram": "12",
        "nvidia.com/gpu.shared": "4",
        "nvidia.com/mig-1g.5gb": "7",
        "nvidia.com/gpu": "0",
        "aliyun.com/gpu-mem": "24",
    }

    assert foreign_offers(allocatable) == ("aliyun.com/gpu-mem", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb")
