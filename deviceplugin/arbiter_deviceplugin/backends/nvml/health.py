"""What the driver's reports mean for a GPU's health, and when it counts as healthy again.

Pure: time is a parameter (s). Imports the core's identifiers and the standard library.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum

from arbiter.ids import GpuUuid

APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""XIDs that speak of a program and not of the GPU: those that NVIDIA's own device plugin passes over (v0.20.0)."""

CALM = 60.0
"""Seconds without a report after which a GPU is healthy again for which the driver asks no recovery."""


class EventKind(IntEnum):
    """The reports that matter, by NVML's bits."""

    DOUBLE_BIT_ECC = 0x2
    XID_CRITICAL = 0x8


class Recovery(IntEnum):
    """What the driver asks for before a GPU can be used on (NVML_GPU_RECOVERY_ACTION_*)."""

    NONE = 0
    GPU_RESET = 1
    NODE_REBOOT = 2
    DRAIN_P2P = 3
    DRAIN_AND_RESET = 4
    RECOVER_IMEX_DOMAIN = 5
    BUS_RESET = 6
    SYSTEM_REBOOT = 7
    OTHER = -1

    @classmethod
    def _missing_(cls, value: object) -> "Recovery":  # noqa: ARG003 - the signature is enum's
        return cls.OTHER


_ASKED: Mapping[Recovery, str] = {
    Recovery.GPU_RESET: "a reset of the GPU",
    Recovery.NODE_REBOOT: "a reboot of the node",
    Recovery.DRAIN_P2P: "an end of all traffic between GPUs",
    Recovery.DRAIN_AND_RESET: "an end of all traffic between GPUs and a reset of the GPU",
    Recovery.RECOVER_IMEX_DOMAIN: "a recovery of the IMEX domain",
    Recovery.BUS_RESET: "a reset of the PCIe bus",
    Recovery.SYSTEM_REBOOT: "a reboot of the system",
    Recovery.OTHER: "a recovery that this version does not know",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Something that the driver reported of a GPU; `data` is the XID where it is one."""

    gpu: GpuUuid
    kind: EventKind
    data: int


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: str
    at: float


class Health:
    """The faults that are not over yet."""

    def __init__(self, *, ignored_xids: Collection[int] = ()) -> None:
        """`ignored_xids` are passed over like those of applications."""
        self._ignored = APPLICATION_XIDS | frozenset(ignored_xids)
        self._faults: dict[GpuUuid, _Fault] = {}

    def note(self, report: Report, *, now: float) -> bool:
        """Takes in a report; whether it makes its GPU unhealthy."""
        if report.kind is EventKind.XID_CRITICAL and report.data in self._ignored:
            return False
        is_xid = report.kind is EventKind.XID_CRITICAL
        reason = f"the driver reported XID {report.data}" if is_xid else "a double-bit memory error (ECC)"
        self._faults[report.gpu] = _Fault(reason, now)
        return True

    def complaint(self, gpu: GpuUuid, recovery: Recovery | None, *, now: float) -> str | None:
        """Why the GPU is not healthy; None where it is.

        `recovery` is what the driver asks for, None where it cannot tell: a fault then stays until the GPU or the
        driver was away, since nothing else says that it was mended.
        """
        if recovery is not None and recovery is not Recovery.NONE:
            return f"the driver asks for {_ASKED[recovery]}."
        fault = self._faults.get(gpu)
        if fault is None:
            return None
        if recovery is Recovery.NONE and now >= fault.at + CALM:
            self.forget(gpu)
            return None
        return f"{fault.reason}."

    def forget(self, gpu: GpuUuid) -> None:
        """The GPU was away and is back: it was reset."""
        self._faults.pop(gpu, None)

    def forget_all(self) -> None:
        """The driver was away and is back."""
        self._faults.clear()
