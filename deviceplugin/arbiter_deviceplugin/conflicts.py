"""Whether somebody else gives the same GPUs away: one owner per GPU, or bytes are promised twice.

Pure. Imports nothing but the standard library.
"""

from collections.abc import Mapping

_FOREIGN = (
    "nvidia.com/gpu",
    "nvidia.com/mig-",
    "nvidia.com/vgpu",
    "nvidia.com/pgpu",
    "aliyun.com/gpu",
    "tencent.com/vcuda",
    "volcano.sh/vgpu",
    "volcano.sh/gpu",
)
"""Beginnings of the resource names under which NVIDIA's plugin (whole, shared, MIG) and other sharers offer GPUs.

``nvidia.com/gpu`` covers ``nvidia.com/gpu.shared`` and the ``nvidia.com/gpumem`` and ``gpucores`` of HAMi.
"""


def foreign_offers(allocatable: Mapping[str, str]) -> tuple[str, ...]:
    """The resources of a node under which others offer its GPUs now, by name."""
    return tuple(
        sorted(name for name, count in allocatable.items() if name.startswith(_FOREIGN) and count not in ("", "0"))
    )
