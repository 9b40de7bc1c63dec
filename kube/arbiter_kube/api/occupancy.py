"""Who takes what of one node's GPUs, and what that leaves for the floor of a newcomer: one reading for everybody.

A pure function of what the node's agent reports, of the pods there, and of room promised to pods that are not bound
yet. The operator has made no such promises; the extender's are its own. Imports the core and the API models.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from enum import StrEnum

from arbiter.equilibrium import Member
from arbiter.ids import GpuUuid, NodeName, OwnerUid, PodUid
from arbiter.placement import GpuRoom, NodeRoom
from arbiter.policy import Policy
from arbiter.units import Slices, slices_for
from arbiter_kube.api.members import admission_bytes, gpus_of, member
from arbiter_kube.api.pods import GpuPod, fixed_demand
from arbiter_kube.api.reports import GrantReport, NodeReport


class Standing(StrEnum):
    """How firm a claim on a node is."""

    NOMINATED = "Nominated"
    SOFT_HELD = "SoftHeld"
    ASSUMED = "Assumed"
    BOUND = "Bound"
    FINISHED = "Finished"
    REPORTED = "Reported"
    """The node names it, the watch of the pods does not: not yet, or no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Room kept for a pod that is not bound yet: nominated, softly held or assumed."""

    pod: GpuPod
    gpus: tuple[GpuUuid, ...]
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one pod takes: on each of `gpus` `vram` bytes that no newcomer can have, and `slices` by GPU.

    Some slices may be of GPUs that it does not use; the kubelet gives them to nobody else all the same.
    `member` is its part in the equilibrium; None for a nominated pod, whose place nobody has fixed yet.
    """

    uid: PodUid
    pod: str
    standing: Standing
    vram: int
    gpus: tuple[GpuUuid, ...]
    slices: Mapping[GpuUuid, Slices]
    member: Member | None = None
    owner: OwnerUid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOccupancy:
    """One node: its claims, the room beside them, and the usable bytes of its largest GPU, healthy or not."""

    room: NodeRoom
    claims: tuple[Claim, ...]
    largest: int


def slices_per_gpu(pod: GpuPod) -> Slices:
    """What the kubelet reserves for it on each of its GPUs."""
    return Slices(-(-pod.slices // pod.demand.gpu_count))


def occupancy(
    name: NodeName,
    report: NodeReport,
    *,
    pods: Iterable[GpuPod],
    promises: Iterable[Promise] = (),
    policy: Policy,
    unit: int,
) -> NodeOccupancy:
    """Everything on one node. `pods` are bound to it; `unit` is the bytes of a slice as pods ask for them.

    Promises count like bound pods, nominations only as long as they still fit beside all others. A node that still
    counts in another unit has no room: the kubelet would give a newcomer other sizes than it asks for.
    """
    return Occupancy(name, report, policy=policy, unit=unit).of(pods, promises)


_Claims = dict[tuple[PodUid, tuple[GpuUuid, ...], Standing], tuple[GpuPod, Claim | None]]


class Occupancy:
    """The same of one report, asked again and again: what is claimed for a pod is worked out once while it stays."""

    def __init__(self, name: NodeName, report: NodeReport, *, policy: Policy, unit: int) -> None:
        self._name = name
        self._report = report
        self._policy = policy
        self._is_of_unit = not report.unit or report.unit == unit
        self._unit = report.unit or unit
        self._node = _Node(report, policy=policy, unit=self._unit)
        self._largest = max((gpu.usable for gpu in report.gpus), default=0)
        self._known: _Claims = {}

    def is_of(self, report: NodeReport, policy: Policy) -> bool:
        """Whether it is of these very objects."""
        return self._report is report and self._policy is policy

    def of(self, pods: Iterable[GpuPod], promises: Iterable[Promise] = ()) -> NodeOccupancy:
        """Everything on the node."""
        known, promised = tuple(pods), tuple(promises)
        firm = [promise for promise in promised if promise.standing is not Standing.NOMINATED]
        before, self._known = self._known, {}
        taken = [
            *(claim for pod in known if (claim := self._once(before, pod, pod.gpus, Standing.BOUND)) is not None),
            *(
                claim
                for promise in firm
                if (claim := self._once(before, promise.pod, promise.gpus, promise.standing)) is not None
            ),
            *self._node.others((*known, *(promise.pod for promise in firm))),
        ]
        room = self._room(taken)
        nominated = (promise for promise in promised if promise.standing is Standing.NOMINATED)
        for promise in sorted(nominated, key=_first_come):
            claim = self._node.nominated(promise)
            if _fits(room, claim):
                taken.append(claim)
                room = self._room(taken)
        return NodeOccupancy(
            room=room if self._is_of_unit else replace(room, gpus=()),
            claims=tuple(sorted(taken, key=lambda claim: (claim.pod, claim.uid))),
            largest=self._largest,
        )

    def _once(self, before: _Claims, pod: GpuPod, gpus: tuple[GpuUuid, ...], standing: Standing) -> Claim | None:
        key = (pod.uid, gpus, standing)
        known = before.get(key)
        if known is None or known[0] is not pod:
            known = pod, self._node.claim(pod, gpus, standing)
        self._known[key] = known
        return known[1]

    def _room(self, claims: Iterable[Claim]) -> NodeRoom:
        return _room(self._name, self._report, claims=claims, policy=self._policy, unit=self._unit)


def drifted(pods: Iterable[GpuPod], report: NodeReport) -> frozenset[PodUid]:
    """The pods whose containers use other GPUs than they were bound with."""
    grants = {grant.pod_uid: grant for grant in report.grants}
    return frozenset(pod.uid for pod in pods if pod.gpus and gpus_of(pod, grants.get(pod.uid)) != pod.gpus)


_Container = tuple[str, str, str]
"""Namespace, pod and container."""


@dataclass(frozen=True, slots=True)
class _Place:
    """GPUs that a container uses, and its slices, of others too."""

    gpus: tuple[GpuUuid, ...]
    slices: Mapping[GpuUuid, Slices]


def _container(pod: GpuPod) -> _Container:
    return pod.namespace, pod.name, pod.frozen.container


def _place(gpus: tuple[GpuUuid, ...], given: Mapping[GpuUuid, Slices]) -> _Place:
    return _Place(gpus, {**dict.fromkeys(gpus, Slices(0)), **given})


class _Kubelet:
    """Where the node says that its containers are."""

    def __init__(self, report: NodeReport) -> None:
        self._gpus = tuple(gpu.uuid for gpu in report.gpus)
        self.grants = {grant.pod_uid: grant for grant in report.grants}
        self._given: dict[_Container, dict[GpuUuid, Slices]] = defaultdict(dict)
        for count in report.slices:
            self._given[count.namespace, count.pod, count.container][count.gpu] = Slices(count.slices)

    def place_of(self, pod: GpuPod) -> _Place:
        """Where it is: its GPUs, else where the kubelet says that its slices are, else, to be safe, every GPU.

        The kubelet's list has names and no UIDs, so it may still speak of a former pod of this name until a grant
        under this UID shows that this one has been allocated.
        """
        given = self._given.get(_container(pod))
        grant = self.grants.get(pod.uid)
        gpus = gpus_of(pod, grant) if grant is not None and grant.gpus else self.there(pod.gpus)
        if given and (not gpus or (grant is not None and grant.granted is not None)):
            return _place(gpus or tuple(given), given)
        return self.place_at(gpus, pod)

    def place_at(self, gpus: tuple[GpuUuid, ...], pod: GpuPod) -> _Place:
        """As it would be on these GPUs; no GPUs: on any."""
        gpus = gpus or self._gpus
        return _Place(gpus, dict.fromkeys(gpus, slices_per_gpu(pod)))

    def place_of_grant(self, grant: GrantReport, *, successors: Set[_Container], unit: int) -> _Place:
        """The same of a container whose pod is unknown; slices of a name with a successor are the successor's."""
        container = (grant.namespace, grant.pod, grant.container)
        given = self._given.get(container)
        if given and container not in successors:
            return _place(grant.gpus, given)
        return _Place(grant.gpus, dict.fromkeys(grant.gpus, slices_for(grant.held, unit=unit)))

    def successors(self, pods: Iterable[GpuPod]) -> Set[_Container]:
        """Containers that have been allocated: the kubelet's slices of their names are theirs, not a former pod's."""
        return {_container(pod) for pod in pods if pod.uid in self.grants and not pod.finished}

    def there(self, gpus: tuple[GpuUuid, ...]) -> tuple[GpuUuid, ...]:
        """These GPUs; none where the node lacks one: then the kubelet may choose any."""
        return gpus if all(gpu in self._gpus for gpu in gpus) else ()


class _Node:
    """Makes claims of pods, and of what the node reports."""

    def __init__(self, report: NodeReport, *, policy: Policy, unit: int) -> None:
        self._kubelet = _Kubelet(report)
        self._policy = policy
        self._unit = unit

    def claim(self, pod: GpuPod, gpus: tuple[GpuUuid, ...], standing: Standing) -> Claim | None:
        """What is claimed for a pod: as bound, else as if it were on these GPUs."""
        if standing is Standing.BOUND:
            return self._bound(pod)
        place = self._kubelet.place_at(self._kubelet.there(gpus), pod)
        return self._claim(pod, standing=standing, place=place)

    def _bound(self, pod: GpuPod) -> Claim | None:
        """None once it is over and holds nothing any more."""
        place = self._kubelet.place_of(pod)
        if not pod.finished:
            return self._claim(pod, standing=Standing.BOUND, place=place)
        grant = self._kubelet.grants.get(pod.uid)
        if grant is None or not grant.held:
            return None
        nothing = _Place(place.gpus, dict.fromkeys(place.gpus, Slices(0)))
        return _remains(grant, pod.key, standing=Standing.FINISHED, place=nothing)

    def nominated(self, promise: Promise) -> Claim:
        """A claim for the floor alone."""
        return Claim(
            uid=promise.pod.uid,
            pod=promise.pod.key,
            standing=promise.standing,
            vram=promise.pod.demand.floor,
            gpus=promise.gpus,
            slices=dict.fromkeys(promise.gpus, slices_per_gpu(promise.pod)),
            owner=promise.pod.owner,
        )

    def others(self, pods: Iterable[GpuPod]) -> list[Claim]:
        """What containers hold whose pods are not among these."""
        known = {pod.uid: pod for pod in pods}
        successors = self._kubelet.successors(known.values())
        return [
            _remains(
                grant,
                f"{grant.namespace}/{grant.pod}",
                standing=Standing.REPORTED,
                place=self._kubelet.place_of_grant(grant, successors=successors, unit=self._unit),
            )
            for uid, grant in self._kubelet.grants.items()
            if uid not in known
        ]

    def _claim(self, pod: GpuPod, *, standing: Standing, place: _Place) -> Claim:
        grant = self._kubelet.grants.get(pod.uid)
        placed = member(pod, grant, gpus=place.gpus, policy=self._policy)
        vram = max(admission_bytes(pod, grant, policy=self._policy), placed.held or 0)
        # A start that was not acknowledged, or is still to come, may give way for a target, but not yet for a floor.
        if vram > max(pod.demand.floor, placed.held or 0):
            placed = replace(placed, held=vram)
        return Claim(
            uid=pod.uid,
            pod=pod.key,
            standing=standing,
            vram=vram,
            gpus=place.gpus,
            slices=place.slices,
            member=placed,
            owner=pod.owner,
        )


def _remains(grant: GrantReport, pod: str, *, standing: Standing, place: _Place) -> Claim:
    """The claim of a container of which nothing is known but the bytes that it holds."""
    demand = fixed_demand(grant.held)
    return Claim(
        uid=grant.pod_uid,
        pod=pod,
        standing=standing,
        vram=grant.held,
        gpus=place.gpus,
        slices=place.slices,
        member=Member(uid=grant.pod_uid, demand=demand, gpus=place.gpus, held=grant.held, name=pod),
    )


def _first_come(promise: Promise) -> tuple[int, float, PodUid]:
    pod = promise.pod
    return -pod.demand.priority.level, pod.created_at, pod.uid


def _fits(room: NodeRoom, claim: Claim) -> bool:
    free = {gpu.uuid: gpu.largest_floor(unit=room.unit) for gpu in room.gpus}
    return all(free.get(gpu, 0) >= slices * room.unit for gpu, slices in claim.slices.items())


def _room(name: NodeName, report: NodeReport, *, claims: Iterable[Claim], policy: Policy, unit: int) -> NodeRoom:
    """The node as placement sees it: healthy GPUs, and each member on those of its GPUs."""
    healthy = {gpu.uuid for gpu in report.gpus if gpu.healthy}
    members: dict[GpuUuid, list[Member]] = defaultdict(list)
    owners: dict[GpuUuid, list[OwnerUid]] = defaultdict(list)
    reserved: dict[GpuUuid, int] = defaultdict(int)
    for claim in sorted(claims, key=lambda claim: claim.uid):
        here = tuple(gpu for gpu in claim.gpus if gpu in healthy)
        for gpu in claim.slices.keys() - {*claim.gpus}:
            reserved[gpu] += claim.slices[gpu] * unit
        for gpu in here:
            if claim.owner is not None:
                owners[gpu].append(claim.owner)
            if claim.member is None:
                reserved[gpu] += max(claim.vram, claim.slices[gpu] * unit)
                continue
            members[gpu].append(claim.member if here == claim.member.gpus else replace(claim.member, gpus=here))
            reserved[gpu] += max(0, claim.slices[gpu] - slices_for(claim.member.demand.floor, unit=unit)) * unit
    gpus = (
        GpuRoom(
            uuid=gpu.uuid,
            usable=gpu.usable,
            members=tuple(members[gpu.uuid]),
            reserved=reserved[gpu.uuid],
            owners=tuple(owners[gpu.uuid]),
            links=frozenset(gpu.links),
        )
        for gpu in report.gpus
        if gpu.healthy
    )
    return NodeRoom(name=name, gpus=tuple(gpus), policy=policy, unit=unit)
