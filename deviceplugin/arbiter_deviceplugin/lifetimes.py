"""When a container's start has ended, and when a pod can hold nothing any more.

Bytes are freed on these answers, so each of them needs two witnesses: what the API server says, and no process left.
Pure. Imports the engine's events and statuses and the API's objects.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from arbiter.ids import PodUid
from arbiter.transitions import Ended, Exited, GrantStatus
from arbiter_deviceplugin.processes import Alive
from arbiter_kube.api.objects import ContainerStatus, Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The start that a container is in: its number, its container's name, and when it was released.

    `released_at` (s) is the latest that the wall clock can have shown then: the kubelet's times are the wall clock's.
    """

    number: int
    released_at: float
    container: str


@dataclass(slots=True)
class _Seen:
    """The container that belongs to a pod's newest start, and whether it has ended with all its processes."""

    start: int
    container: str
    has_exited: bool = False


@dataclass(slots=True)
class Lifetimes:
    """What was seen of starts and processes, look after look."""

    _seen: dict[PodUid, _Seen] = field(default_factory=dict)
    _absent: frozenset[PodUid] = frozenset()
    _local_uids: dict[PodUid, PodUid] = field(default_factory=dict)
    is_waiting: bool = False
    """Whether a pod is over that may have a process still."""

    def note_running(self, uid: PodUid, start: Start, pod: Pod, alive: Alive) -> None:
        """Learns which container belongs to the start: the kubelet lets all former ones end before it asks for it.

        A container stays that of the first start in which it was found: what it leaves behind for a moment, and a late
        report of it, are not the next start's. `pod` and `start` must have been known at the same time, before `alive`.
        """
        status = pod.container_status(start.container)
        container = status and container_id(status)
        seen = self._seen.get(uid)
        if not status or not container or (seen is not None and seen.container == container):
            return
        if container in alive.containers or _began_after(status, start.released_at):
            self._seen[uid] = _Seen(start.number, container)

    def exited(self, uid: PodUid, start: Start, pod: Pod, alive: Alive) -> Exited | None:
        """The event that the start has ended, if the kubelet says so of its very container and no process is left."""
        status, seen = pod.container_status(start.container), self._seen.get(uid)
        if status is None or seen is None or seen.start != start.number or seen.container in alive.containers:
            return None
        is_last = container_id(status) == seen.container and status.state.running is None
        if not is_last:
            return None
        seen.has_exited = True
        return Exited(uid, start.number)

    def ended(self, statuses: Collection[GrantStatus], pods: Mapping[PodUid, Pod], alive: Alive) -> list[Ended]:
        """The pods that are over.

        A finished pod is, once its last start is known to have exited: nothing is started in it any more. Else it
        takes a finished or vanished pod without any process in this look and the one before, its sandbox included.
        Twice, because a process that is being forked can be missed by one walk through /proc.
        """
        known = {status.uid: status for status in statuses}
        self._keep(known.keys(), pods)
        finished = {uid for uid in known if _is_finished(pods.get(uid))}
        exited = {uid for uid in finished if self._has_exited(known[uid])}
        over = finished | {uid for uid, status in known.items() if status.gone}
        absent = frozenset(uid for uid in over if self._local_uids[uid] not in alive.pods)
        ended = sorted(exited | (absent & self._absent))
        self._absent = absent
        self.is_waiting = len(over) > len(ended)
        return [Ended(uid) for uid in ended]

    def _keep(self, uids: Collection[PodUid], pods: Mapping[PodUid, Pod]) -> None:
        """Forgets all but these pods; of each the UID is kept by which its processes are known."""
        self._seen = {uid: seen for uid, seen in self._seen.items() if uid in uids}
        self._local_uids = {uid: pods[uid].local_uid if uid in pods else self._local_uids.get(uid, uid) for uid in uids}

    def _has_exited(self, status: GrantStatus) -> bool:
        seen = self._seen.get(status.uid)
        return seen is not None and seen.start == status.start and seen.has_exited


def _is_finished(pod: Pod | None) -> bool:
    return pod is not None and pod.is_finished


def container_id(status: ContainerStatus) -> str:
    """The id, without the runtime's name, of the container that the status is about; empty before there is one."""
    return status.container_id.rpartition("/")[2]


def _began_after(status: ContainerStatus, released_at: float) -> bool:
    """Whether its start is certainly later than the release: the API's times are whole seconds, cut off."""
    state = status.state.running or status.state.terminated
    began = state.started_at if state else None
    return began is not None and began.timestamp() > released_at


def control_groups(released: Mapping[PodUid, Start], pods: Mapping[PodUid, Pod], alive: Alive) -> dict[PodUid, str]:
    """The control groups of the containers that were let go, as far as they run."""
    groups = {}
    for uid, start in released.items():
        status = pods[uid].container_status(start.container) if uid in pods else None
        group = alive.groups.get(container_id(status)) if status else None
        if group is not None:
            groups[uid] = group
    return groups
