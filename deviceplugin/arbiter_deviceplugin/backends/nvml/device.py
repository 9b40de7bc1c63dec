"""One NVIDIA GPU by its index: what it says of itself, of its memory and of who uses it. Every call blocks.

Imports pynvml and what reads /proc.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

from arbiter.ids import GpuUuid
from arbiter.units import MIB
from arbiter_deviceplugin.backends import Gpu, Limits
from arbiter_deviceplugin.backends.nvml.health import Recovery
from arbiter_deviceplugin.backends.nvml.limits import limits_support, set_limit
from arbiter_deviceplugin.backends.nvml.picture import Answer
from arbiter_deviceplugin.processes import pod_of

_log = logging.getLogger(__name__)

_LEAST_RESERVE = 256 * MIB
_RESERVE_PERCENT = 3

_UNEXPLAINED = 512 * MIB
_UNEXPLAINED_PERCENT = 1
"""Used bytes that no visible process has and that are no sign of an invisible one: the larger of the two."""

_PATIENCE = 3
"""Readings in a row with unexplained use, before it is said that nobody can tell who uses what."""

_NOT_THERE = (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported, pynvml.NVMLError_NoPermission)
"""The driver, the board or our rights do not let this be told."""

_Handle = Any
"""A pointer that pynvml hands out; it has no type there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """What stays the same until NVML is initialised again."""

    uuid: GpuUuid
    name: str
    links: tuple[GpuUuid, ...]
    limits: Limits | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    total: int
    reserved: int
    used: int


class Device:
    """A GPU since NVML was last initialised; `proc` shows the processes that the driver speaks of."""

    def __init__(self, index: int, *, count: int, proc: Path) -> None:
        """`count` GPUs in all may be linked to it."""
        self._index = index
        self._count = count
        self._proc = proc
        self._identity: _Identity | None = None
        self._unexplained = _PATIENCE

    @property
    def uuid(self) -> GpuUuid | None:
        """Its uuid; None before it was read."""
        return self._identity.uuid if self._identity else None

    def limit(self, control_group: str, size: int) -> None:
        """Lets a control group hold up to `size` bytes of it.

        Raises:
            pynvml.NVMLError: the driver refuses.
        """
        set_limit(pynvml.nvmlDeviceGetHandleByIndex(self._index), control_group, size)

    def read(self) -> Answer:
        """What it says now.

        Raises:
            pynvml.NVMLError: it cannot be read.
        """
        handle = pynvml.nvmlDeviceGetHandleByIndex(self._index)
        if self._identity is None:
            self._identity = self._identify(handle)
        memory, use = self._use(handle)
        identity = self._identity
        gpu = Gpu(
            uuid=identity.uuid,
            index=self._index,
            name=identity.name,
            total=memory.total,
            reserved=memory.reserved,
            used=memory.used,
            use=use,
            links=identity.links,
            limits=identity.limits,
        )
        return Answer(gpu=gpu, has_mig=_has_mig(handle), recovery=_recovery(handle))

    def _identify(self, handle: _Handle) -> _Identity:
        return _Identity(
            uuid=GpuUuid(pynvml.nvmlDeviceGetUUID(handle)),
            name=pynvml.nvmlDeviceGetName(handle),
            links=tuple(sorted(self._links(handle))),
            limits=limits_support(handle, self._proc),
        )

    def _links(self, handle: _Handle) -> Iterable[GpuUuid]:
        """The other GPUs that NVLink reaches, through a switch or directly; what cannot be asked is taken for none."""
        for index in range(self._count):
            if index == self._index:
                continue
            try:
                other = pynvml.nvmlDeviceGetHandleByIndex(index)
                status = pynvml.nvmlDeviceGetP2PStatus(handle, other, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
                if status == pynvml.NVML_P2P_STATUS_OK:
                    yield GpuUuid(pynvml.nvmlDeviceGetUUID(other))
            except pynvml.NVMLError as error:
                _log.debug("link unknown index=%d other=%d error=%s", self._index, index, error)

    def _use(self, handle: _Handle) -> tuple[_Memory, dict[str, int] | None]:
        """Its memory, and how much of it each pod uses; None where that cannot be told."""
        memory, use, is_explained = self._attribute(handle)
        if not is_explained:  # a process may have come or gone between two calls
            memory, use, is_explained = self._attribute(handle)
        self._note(is_explained=is_explained)
        return memory, use if self._unexplained < _PATIENCE else None

    def _attribute(self, handle: _Handle) -> tuple[_Memory, dict[str, int] | None, bool]:
        """Its memory, what pods use of it, and whether that and other processes explain what is used.

        The driver's list is only as good as what it can see: without the host's process ids used bytes are missing
        in it. So it counts only while it explains what is used.
        """
        memory = _memory(handle)
        processes = _processes(handle)
        if processes is None:
            return memory, None, True
        use: dict[str, int] = {}
        seen = 0
        for pid, size in processes.items():
            pod = pod_of(self._proc, pid)
            if pod is not None:
                seen += size
            if pod:
                use[pod] = use.get(pod, 0) + size
        slack = max(_UNEXPLAINED, memory.total * _UNEXPLAINED_PERCENT // 100)
        return memory, use, memory.used - seen <= slack

    def _note(self, *, is_explained: bool) -> None:
        if is_explained:
            self._unexplained = 0
            return
        self._unexplained += 1
        if self._unexplained == _PATIENCE:
            _log.warning(
                "who uses this gpu's memory cannot be told; the agent needs the host's process ids index=%d",
                self._index,
            )


def _memory(handle: _Handle) -> _Memory:
    """Version 1 of the call counts what the driver reserves as used and does not tell it."""
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (*_NOT_THERE, pynvml.NVMLError_ArgumentVersionMismatch):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        reserved = max(memory.total * _RESERVE_PERCENT // 100, _LEAST_RESERVE)
        return _Memory(total=memory.total, reserved=reserved, used=max(0, memory.used - reserved))
    return _Memory(total=memory.total, reserved=memory.reserved, used=memory.used)


def _processes(handle: _Handle) -> dict[int, int] | None:
    """Bytes of each process by its id; None where the driver cannot tell.

    Versioned calls, since pynvml has an error of its own for others that the driver lacks. Under MPS the server's
    process is said to use what its clients do (NVIDIA's MPS documentation, "Limitations").
    """
    if _listed(handle, pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v3):
        return None
    compute = _listed(handle, pynvml.nvmlDeviceGetComputeRunningProcesses_v3)
    graphics = _listed(handle, pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3) or {}
    if compute is None or None in compute.values():
        return None
    # A process that computes and draws is in both lists, with the same bytes.
    return {pid: compute.get(pid) or graphics.get(pid) or 0 for pid in compute.keys() | graphics.keys()}


def _listed(handle: _Handle, ask: Callable[[_Handle], Any]) -> dict[int, int | None] | None:
    try:
        return {process.pid: process.usedGpuMemory for process in ask(handle)}
    except _NOT_THERE:
        return None


def _has_mig(handle: _Handle) -> bool:
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except _NOT_THERE:
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _recovery(handle: _Handle) -> Recovery | None:
    """What the driver asks for; drivers before r565 or so cannot tell."""
    try:
        (value,) = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    except _NOT_THERE:
        return None
    return Recovery(value.value.uiVal) if value.nvmlReturn == pynvml.NVML_SUCCESS else None
