"""Memory limits of control groups on one GPU: NVIDIA's "MPS v3 memory partitioning" (driver r615), by NVML. Blocking.

Written to the documented interface and exercised against a stub; no driver that has it was at hand.
"""

from pathlib import Path
from typing import Any

import pynvml

from arbiter_deviceplugin.backends import Limits
from arbiter_deviceplugin.processes import control_group_of

CGROUP_ROOT = Path("/sys/fs/cgroup")
"""Where version 2 is mounted; the driver wants full paths below it."""

_Handle = Any
"""A pointer that pynvml hands out; it has no type there."""


def limits_support(handle: _Handle, proc: Path) -> Limits | None:
    """Who would enforce a limit on this GPU; None where the driver has no such call or refuses it for our own group.

    The driver leaves it to the kernel's `dmem` controller where there is one, and lists its GPUs there.
    """
    own = control_group_of(proc, "self")
    if own is None:
        return None
    try:
        asked = pynvml.c_nvmlGetMemoryLimits_v1_t(nameSpace=_full(own))
        pynvml.nvmlDeviceGetMemoryLimits_v1(handle, asked)
    except (AttributeError, pynvml.NVMLError):  # an older pynvml lacks the call
        return None
    return Limits.DMEM if (CGROUP_ROOT / "dmem.capacity").exists() else Limits.MISC


def set_limit(handle: _Handle, control_group: str, size: int) -> None:
    """Lets the group allocate up to `size` bytes of the GPU.

    Without a guaranteed share (soft limit 0): what containers may hold never exceeds the GPU, so none needs to be
    guarded against another, and a share that is still set when its group is deleted would stay reserved.

    Raises:
        pynvml.NVMLError: the driver refuses.
    """
    limits = pynvml.c_nvmlSetMemoryLimits_v1_t(nameSpace=_full(control_group), softLimit=0, hardLimit=size)
    pynvml.nvmlDeviceSetMemoryLimits_v1(handle, limits)


def _full(control_group: str) -> bytes:
    return bytes(CGROUP_ROOT / control_group.lstrip("/"))
