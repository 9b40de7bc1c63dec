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
    """The start that a container is in: its number, when it was released (s), and its container's name."""

    number: int
    released_at: float
    container: str


@dataclass(slots=True)
class Lifetimes:
    """What was seen of starts and processes, look after look."""

    _containers: dict[tuple[PodUid, int], str] = field(default_factory=dict)
    _exited: set[tuple[PodUid, int]] = field(default_factory=set)
    _absent: frozenset[PodUid] = frozenset()
    _local_uids: dict[PodUid, PodUid] = field(default_factory=dict)
    is_waiting: bool = False
    """Whether a pod is over that may have a process still."""

    def note_running(self, uid: PodUid, start: Start, pod: Pod, alive: Alive) -> None:
        """Learns which container belongs to the start: the kubelet lets all former ones end before it asks for it."""
        status = pod.container_status(start.container)
        container = status and container_id(status)
        if status and container and (container in alive.containers or _began_after(status, start.released_at)):
            self._containers[uid, start.number] = container

    def exited(self, uid: PodUid, start: Start, pod: Pod, alive: Alive) -> Exited | None:
        """The event that the start has ended, if the kubelet says so of its very container and no process is left."""
        status = pod.container_status(start.container)
        container = self._containers.get((uid, start.number))
        if status is None or container is None or container in alive.containers:
            return None
        is_last = container_id(status) == container and status.state.running is None
        if not is_last:
            return None
        self._exited.add((uid, start.number))
        return Exited(uid, start.number)

    def ended(self, statuses: Collection[GrantStatus], pods: Mapping[PodUid, Pod], alive: Alive) -> list[Ended]:
        """The pods that are over.

        A finished pod is, once its last start is known to have exited: nothing is started in it any more. Else it
        takes a finished or vanished pod without any process in this look and the one before, its sandbox included.
        Twice, because a process that is being forked can be missed by one walk through /proc.
        """
        finished = {status.uid: status for status in statuses if _is_finished(pods.get(status.uid))}
        exited = {uid for uid, status in finished.items() if (uid, status.start) in self._exited}
        over = finished.keys() | {status.uid for status in statuses if status.gone}
        self._local_uids.update(
            {uid: pods[uid].local_uid for uid in (status.uid for status in statuses) if uid in pods}
        )
        absent = frozenset(uid for uid in over if self._local_uids.get(uid, uid) not in alive.pods)
        ended = sorted(exited | (absent & self._absent))
        self._absent = absent
        self.is_waiting = len(over) > len(ended)
        for uid in ended:
            self._forget(uid)
        return [Ended(uid) for uid in ended]

    def _forget(self, uid: PodUid) -> None:
        self._containers = {key: container for key, container in self._containers.items() if key[0] != uid}
        self._exited = {key for key in self._exited if key[0] != uid}
        self._local_uids.pop(uid, None)


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
