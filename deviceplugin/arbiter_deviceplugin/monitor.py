"""Who uses more memory than it may hold, by what the driver measures.

Pure. Imports the engine's statuses, the API's pods, the shape of events and the backends' data types.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.transitions import GrantStatus
from arbiter.transitions.confirmation import TOLERANCE
from arbiter.units import format_mib
from arbiter_deviceplugin.backends import Reading
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.resources import PODS
from arbiter_kube.client.events import EventType, Notice, reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Offender:
    """A container that takes what was promised to others; bytes are those of the GPU on which it uses most."""

    pod: GpuPod
    gpus: tuple[GpuUuid, ...]
    measured: int
    held: int

    @property
    def excess(self) -> int:
        """Bytes that it uses beyond what it may hold."""
        return self.measured - self.held


def measured_use(reading: Reading, status: GrantStatus, pod: GpuPod | None) -> int | None:
    """Bytes per GPU that the container of a grant was seen to use; None where nobody can tell."""
    names = (status.name, pod.local_uid) if pod else (status.name,)
    return reading.use_of(names, status.gpus)


def offenders(grants: Iterable[GrantStatus], pods: Mapping[PodUid, GpuPod], reading: Reading) -> tuple[Offender, ...]:
    """The containers that use more than they may hold, beyond the tolerance; by the names of their pods.

    What a container *may hold* counts and not what it was told last: for a shrink it has its grace.
    """
    found = []
    for status in grants:
        pod = pods.get(status.uid)
        measured = measured_use(reading, status, pod)
        if pod is not None and measured is not None and measured > status.held + TOLERANCE:
            found.append(Offender(pod=pod, gpus=status.gpus, measured=measured, held=status.held))
    return tuple(sorted(found, key=lambda offender: offender.pod.key))


class Monitor:
    """Tells of each container once, when it begins to use more than it may hold."""

    def __init__(self, node: NodeName) -> None:
        self._node = node
        self._offending: frozenset[PodUid] = frozenset()

    def look(self, grants: Iterable[GrantStatus], pods: Mapping[PodUid, GpuPod], reading: Reading) -> list[Notice]:
        """The events that people should see."""
        found = offenders(grants, pods, reading)
        notices = [self._notice(offender) for offender in found if offender.pod.uid not in self._offending]
        self._offending = frozenset(offender.pod.uid for offender in found)
        return notices

    def _notice(self, offender: Offender) -> Notice:
        measured, held = format_mib(offender.measured), format_mib(offender.held)
        return Notice(
            about=reference(PODS, offender.pod),
            type=EventType.WARNING,
            reason="MeasuredAboveGrant",
            message=f"uses {measured} of {', '.join(offender.gpus)} on {self._node} and may hold {held}: "
            "it takes memory that was promised to others.",
        )
