"""Who takes what of one node's GPUs, and what that leaves for the floor of a newcomer.

A pure function of what the API server says of the node and what this process has promised there. Imports the core and
the API models.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from arbiter.equilibrium import Member
from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.placement import GpuRoom, NodeRoom
from arbiter.policy import Policy
from arbiter.units import Slices, slices_for
from arbiter_kube.api.gpunode import GpuNodeStatus, GrantOnNode
from arbiter_kube.api.members import admission_bytes, member
from arbiter_kube.api.pods import GpuPod

SOFT_HOLD = 2.0
"""Seconds for which room is held between the choice of a node and the bind."""


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
class Placement:
    """The GPUs of a node that a pod shall have."""

    node: NodeName
    gpus: tuple[GpuUuid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What this process promised to a pod that is not bound yet; `until` is None once its bind is in flight."""

    pod: GpuPod
    placement: Placement
    until: float | None

    @property
    def is_assumed(self) -> bool:
        """Whether only the API server's word ends it."""
        return self.until is None

    def is_over(self, now: float) -> bool:
        """Whether a soft hold has run out."""
        return self.until is not None and now >= self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one pod takes of every GPU in `slices`: those slices, and `vram` bytes that no newcomer can have.

    `member` is its part in the equilibrium; None where nothing of it is known but its bytes.
    """

    uid: PodUid
    pod: str
    standing: Standing
    vram: int
    slices: Mapping[GpuUuid, Slices]
    member: Member | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOccupancy:
    """One node: its claims, the room beside them, and the usable bytes of its largest GPU, healthy or not."""

    room: NodeRoom
    claims: tuple[Claim, ...]
    largest: int


_Container = tuple[str, str, str]
"""Namespace, pod and container."""


def slices_per_gpu(pod: GpuPod) -> Slices:
    """What the kubelet reserves for it on each of its GPUs."""
    return Slices(-(-pod.slices // pod.demand.gpu_count))


def occupancy(
    name: NodeName,
    status: GpuNodeStatus,
    *,
    pods: Iterable[GpuPod],
    holds: Iterable[Hold],
    policy: Policy,
    unit: int,
    now: float,
) -> NodeOccupancy:
    """Everything on one node. `pods` are bound or nominated to it; `unit` (bytes of a slice) yields to the node's."""
    known = tuple(pods)
    bound = [pod for pod in known if pod.node is not None]
    promised = tuple(holds)
    node = _Reports(status)
    claims = [
        *(_bound(pod, node, policy=policy) for pod in bound),
        *(_held(hold, node, policy=policy) for hold in promised),
        *node.others({pod.uid for pod in bound} | {hold.pod.uid for hold in promised}, unit=status.unit or unit),
    ]
    room = _room(name, status, claims=claims, policy=policy, unit=status.unit or unit)
    for pod in sorted(known, key=lambda pod: (-pod.demand.priority.level, pod.created_at, pod.uid)):
        nominated = _nominated(pod, now=now)
        if nominated is not None and _fits(room, nominated):
            claims.append(nominated)
            room = _room(name, status, claims=claims, policy=policy, unit=room.unit)
    return NodeOccupancy(
        room=room,
        claims=tuple(sorted(claims, key=lambda claim: (claim.pod, claim.uid))),
        largest=max((gpu.usable for gpu in status.gpus), default=0),
    )


def drifted(pods: Iterable[GpuPod], status: GpuNodeStatus) -> frozenset[PodUid]:
    """The pods that the kubelet gave other GPUs than they were bound with."""
    node = _Reports(status)
    return frozenset(pod.uid for pod in pods if pod.node and pod.gpus and {*pod.gpus} != {*node.slices_of(pod)})


class _Reports:
    """A GpuNode's status, by pod."""

    def __init__(self, status: GpuNodeStatus) -> None:
        self._gpus = tuple(GpuUuid(gpu.uuid) for gpu in status.gpus)
        self.grants = {PodUid(grant.pod_uid): grant for grant in status.grants}
        self._kubelet: dict[_Container, dict[GpuUuid, Slices]] = defaultdict(dict)
        for count in status.slices:
            self._kubelet[count.namespace, count.pod, count.container][GpuUuid(count.gpu)] = Slices(count.slices)

    def slices_of(self, pod: GpuPod) -> Mapping[GpuUuid, Slices]:
        """Where it is: what the kubelet says, else what it was bound with, else, to be safe, every GPU.

        The kubelet's list has names and no UIDs, so it may still speak of a former pod of this name until a grant
        under this UID shows that this one has been allocated.
        """
        kubelet = self._kubelet.get((pod.namespace, pod.name, pod.frozen.container))
        grant = self.grants.get(pod.uid)
        if kubelet and (not pod.gpus or (grant is not None and grant.granted is not None)):
            return kubelet
        return dict.fromkeys(pod.gpus or self._gpus, slices_per_gpu(pod))

    def others(self, known: set[PodUid], *, unit: int) -> list[Claim]:
        """What containers hold whose pods are not among the known."""
        return [self._reported(grant, unit=unit) for uid, grant in self.grants.items() if uid not in known]

    def _reported(self, grant: GrantOnNode, *, unit: int) -> Claim:
        kubelet = self._kubelet.get((grant.namespace, grant.pod, grant.container))
        slices = kubelet or {GpuUuid(gpu): slices_for(grant.held, unit=unit) for gpu in grant.gpus}
        return Claim(
            uid=PodUid(grant.pod_uid),
            pod=f"{grant.namespace}/{grant.pod}",
            standing=Standing.REPORTED,
            vram=grant.held,
            slices=slices,
        )


def _bound(pod: GpuPod, node: _Reports, *, policy: Policy) -> Claim:
    grant = node.grants.get(pod.uid)
    slices = node.slices_of(pod)
    if pod.finished:
        return Claim(
            uid=pod.uid,
            pod=pod.key,
            standing=Standing.FINISHED,
            vram=grant.held if grant else 0,
            slices=dict.fromkeys(slices, Slices(0)),
        )
    return _claim(pod, standing=Standing.BOUND, slices=slices, grant=grant, policy=policy)


def _held(hold: Hold, node: _Reports, *, policy: Policy) -> Claim:
    return _claim(
        hold.pod,
        standing=Standing.ASSUMED if hold.is_assumed else Standing.SOFT_HELD,
        slices=dict.fromkeys(hold.placement.gpus, slices_per_gpu(hold.pod)),
        grant=node.grants.get(hold.pod.uid),
        policy=policy,
    )


def _claim(
    pod: GpuPod,
    *,
    standing: Standing,
    slices: Mapping[GpuUuid, Slices],
    grant: GrantOnNode | None,
    policy: Policy,
) -> Claim:
    vram = admission_bytes(pod, grant)
    placed = replace(member(pod, grant, policy=policy), gpus=tuple(slices))
    # A start that was not acknowledged will give way for a target, but not yet for a floor.
    if vram > max(pod.demand.floor, placed.held or 0):
        placed = replace(placed, held=vram)
    return Claim(uid=pod.uid, pod=pod.key, standing=standing, vram=vram, slices=slices, member=placed)


def _nominated(pod: GpuPod, *, now: float) -> Claim | None:
    nomination = pod.nomination
    if nomination is None or pod.node or pod.finished or pod.terminating or now >= nomination.until.timestamp():
        return None
    return Claim(
        uid=pod.uid,
        pod=pod.key,
        standing=Standing.NOMINATED,
        vram=pod.demand.floor,
        slices=dict.fromkeys(nomination.gpus, slices_per_gpu(pod)),
    )


def _fits(room: NodeRoom, claim: Claim) -> bool:
    free = {gpu.uuid: gpu.largest_floor(unit=room.unit) for gpu in room.gpus}
    return all(free.get(gpu, 0) >= slices * room.unit for gpu, slices in claim.slices.items())


def _room(name: NodeName, status: GpuNodeStatus, *, claims: Iterable[Claim], policy: Policy, unit: int) -> NodeRoom:
    """The node as placement sees it: healthy GPUs, and each member on those of its GPUs."""
    healthy = {GpuUuid(gpu.uuid): gpu.usable for gpu in status.gpus if gpu.healthy}
    members: dict[GpuUuid, list[Member]] = defaultdict(list)
    reserved: dict[GpuUuid, int] = defaultdict(int)
    for claim in sorted(claims, key=lambda claim: claim.uid):
        here = tuple(gpu for gpu in claim.slices if gpu in healthy)
        for gpu in here:
            if claim.member is None:
                reserved[gpu] += max(claim.vram, claim.slices[gpu] * unit)
                continue
            members[gpu].append(replace(claim.member, gpus=here))
            reserved[gpu] += max(0, claim.slices[gpu] - slices_for(claim.member.demand.floor, unit=unit)) * unit
    gpus = (
        GpuRoom(uuid=gpu, usable=usable, members=tuple(members[gpu]), reserved=reserved[gpu])
        for gpu, usable in healthy.items()
    )
    return NodeRoom(name=name, gpus=tuple(gpus), policy=policy, unit=unit)
