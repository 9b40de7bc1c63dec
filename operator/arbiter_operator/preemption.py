"""Which pods make room for a more important one that fits nowhere, and where. Pure.

kube-scheduler cannot decide it: its dry run counts units of a node, not bytes of a GPU, and never asks an extender
where units suffice but no GPU has enough of them.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.placement import GpuRoom, NodeRoom, fits
from arbiter.preemption import Candidate, victims
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.scheduling import Requests
from arbiter_operator.node import NodeState


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node where a waiting pod may run once there is room, as it is `now` (seconds since the epoch).

    `room` counts what is kept for nominated pods; `idle` is what nobody asks for of CPU and memory, and `requests` what
    the pods there ask for.
    """

    state: NodeState
    room: NodeRoom
    idle: Requests
    requests: Mapping[PodUid, Requests]
    now: float

    @property
    def leaving(self) -> frozenset[PodUid]:
        """Pods that were deleted or are over, but whose containers still hold memory, and not for too long."""
        seats = self.state.seats.items()
        return frozenset(
            uid for uid, seat in seats if (self.state.is_leaving(uid, now=self.now) if seat.pod else seat.priority)
        )

    @property
    def unknown(self) -> frozenset[PodUid]:
        """Containers that hold memory and whose pods nobody shows: mostly of those that have just gone."""
        return frozenset(uid for uid, seat in self.state.seats.items() if seat.pod is None) - self.leaving

    def without(self, gone: Container[PodUid]) -> NodeRoom:
        """Its room once these have left."""
        return replace(self.room, gpus=tuple(_without(gpu, gone) for gpu in self.room.gpus))

    def has_idle(self, wanted: Requests, *, gone: Iterable[PodUid] = ()) -> bool:
        """Whether CPU and memory suffice once these have left."""
        return wanted.within(sum((self.requests.get(uid, Requests()) for uid in gone), self.idle))


@dataclass(frozen=True, slots=True, kw_only=True)
class Preemption:
    """These pods leave, so that the waiting one has room on those GPUs."""

    node: NodeName
    gpus: tuple[GpuUuid, ...]
    victims: tuple[GpuPod, ...]


def fits_soon(pod: GpuPod, wanted: Requests, places: Iterable[Place], *, nominated: bool = False) -> bool:
    """Whether it is enough to wait for pods that are leaving anyway, or for the bytes of those that left.

    A container whose pod is unknown may hold its memory for ever. It counts as leaving where the pod is `nominated`:
    others left for that.
    """

    def has_room(place: Place) -> bool:
        gone = place.leaving | place.unknown if nominated else place.leaving
        return fits(place.without(gone), pod.demand) and place.has_idle(wanted, gone=gone)

    return any(has_room(place) for place in places)


def preemption(
    pod: GpuPod, wanted: Requests, places: Iterable[Place], *, spared: Container[PodUid] = ()
) -> Preemption | None:
    """The least harm that makes room for the pod: fewest, then lowest, then youngest victims; None where none does.

    `spared` may not be evicted: a PodDisruptionBudget protects them.
    """
    offers = (offer for place in places if (offer := _best_on(place, pod, wanted, spared)) is not None)
    best = min(offers, key=lambda offer: offer.rank, default=None)
    if best is None:
        return None
    pods = (best.place.state.seats[who.uid].pod for who in best.victims)
    return Preemption(
        node=best.place.state.name, gpus=best.gpus, victims=tuple(victim for victim in pods if victim is not None)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    place: Place
    gpus: tuple[GpuUuid, ...]
    victims: tuple[Candidate, ...]

    @property
    def rank(self) -> tuple[int, tuple[tuple[int, float, PodUid], ...], NodeName, tuple[GpuUuid, ...]]:
        orders = tuple(sorted((who.order for who in self.victims), reverse=True))
        return len(self.victims), orders, self.place.state.name, self.gpus


def _best_on(place: Place, pod: GpuPod, wanted: Requests, spared: Container[PodUid]) -> _Offer | None:
    """The GPUs of one node with the least harm, each looked at by itself."""
    offers = (_on_gpu(gpu, place, pod, wanted, spared) for gpu in place.without(place.leaving).gpus)
    best = sorted((offer for offer in offers if offer is not None), key=lambda offer: offer.rank)
    if len(best) < pod.demand.gpu_count:
        return None
    chosen = best[: pod.demand.gpu_count]
    # One victim may sit on several of the GPUs.
    leave = {who.uid: who for offer in chosen for who in offer.victims}
    gpus = tuple(sorted(gpu for offer in chosen for gpu in offer.gpus))
    return _Offer(place=place, gpus=gpus, victims=tuple(leave.values()))


def _on_gpu(gpu: GpuRoom, place: Place, pod: GpuPod, wanted: Requests, spared: Container[PodUid]) -> _Offer | None:
    def has_room(gone: frozenset[PodUid]) -> bool:
        room = _without(gpu, gone).largest_floor(unit=place.room.unit)
        return room >= pod.demand.floor and place.has_idle(wanted, gone=gone | place.leaving)

    candidates = (_candidate(gpu, uid, place) for uid in (member.uid for member in gpu.members) if uid not in spared)
    chosen = victims(filter(None, candidates), newcomer=pod.demand.priority, fits=has_room)
    return None if chosen is None else _Offer(place=place, gpus=(gpu.uuid,), victims=chosen)


def _candidate(gpu: GpuRoom, uid: PodUid, place: Place) -> Candidate | None:
    seat = place.state.seats.get(uid)
    if seat is None or seat.pod is None or seat.pod.terminating:
        return None
    member = next(member for member in gpu.members if member.uid == uid)
    return Candidate(
        uid=uid,
        priority=seat.pod.demand.priority,
        size=max(member.demand.floor, member.held or 0),
        since=seat.pod.bound_at or seat.pod.created_at,
    )


def _without(gpu: GpuRoom, gone: Container[PodUid]) -> GpuRoom:
    return replace(gpu, members=tuple(member for member in gpu.members if member.uid not in gone))
