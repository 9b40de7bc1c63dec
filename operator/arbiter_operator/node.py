"""One node as the operator's decisions see it: who sits on its GPUs, and under which policy. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from arbiter.equilibrium import Member
from arbiter.ids import GpuUuid, NodeName, PodUid
from arbiter.placement import NodeRoom
from arbiter.policy import Policy
from arbiter.workload import Priority
from arbiter_kube.api.gpunode import GpuNodeStatus, GrantOnNode
from arbiter_kube.api.members import gpus_of, member
from arbiter_kube.api.occupancy import Promise, Standing, occupancy
from arbiter_kube.api.pods import GpuPod, fixed_demand
from arbiter_kube.api.reports import node_report

LEAVING_SLACK = 60.0
"""Seconds beyond its grace in which a pod that was deleted still counts as leaving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One member of the node's GPUs, called `who`, with its priority where that is known.

    `pod` is None where the node reports a container whose pod is over or unknown.
    """

    who: str
    priority: Priority | None
    member: Member
    pod: GpuPod | None
    grant: GrantOnNode | None


@dataclass(frozen=True, kw_only=True)  # no slots: what follows from it is worked out once and kept
class NodeState:
    """What targets of one node follow from: its agent's report, the pods bound to it, the policy in force.

    `ending` has the pods that were deleted, and when (seconds since the epoch) the grace that they were given ends.
    """

    name: NodeName
    report: GpuNodeStatus
    pods: tuple[GpuPod, ...] = ()
    policy: Policy = field(default_factory=Policy)
    policy_name: str = ""
    ending: Mapping[PodUid, float] = field(default_factory=dict)

    @cached_property
    def capacities(self) -> dict[GpuUuid, int]:
        """Usable bytes by GPU."""
        return {GpuUuid(gpu.uuid): gpu.usable for gpu in self.report.gpus}

    @cached_property
    def seats(self) -> Mapping[PodUid, Seat]:
        """Everybody on the node's GPUs, by pod: live pods, and what containers of others may still hold."""
        grants = {PodUid(grant.pod_uid): grant for grant in self.report.grants}
        live = {pod.uid: pod for pod in self.pods if not pod.finished}
        over = {pod.uid: pod for pod in self.pods if pod.finished}
        taken = {uid: _live_seat(pod, grants.get(uid), self) for uid, pod in live.items()}
        for uid, grant in grants.items():
            if uid not in live and grant.held > 0:
                taken[uid] = _reported_seat(uid, grant, over.get(uid), self)
        return {uid: seat for uid, seat in sorted(taken.items()) if seat.member.gpus}

    def is_leaving(self, pod: PodUid, *, now: float) -> bool:
        """Whether it was deleted and will soon be gone; `now` in seconds since the epoch.

        One that should be gone by now may hold its memory for ever: its container cannot be killed.
        """
        ends_at = self.ending.get(pod)
        return ends_at is not None and now < ends_at + LEAVING_SLACK

    def label(self, gpu: GpuUuid) -> str:
        """A GPU as people call it: ``gpu-1/0``, node and index."""
        index = next((str(known.index) for known in self.report.gpus if known.uuid == gpu), gpu)
        return f"{self.name}/{index}"


def display_name(pod: GpuPod) -> str:
    """What a pod is called in sentences: by the allocation that people wrote, else by its own name."""
    return f"{pod.namespace}/{pod.frozen.allocation or pod.name}"


def _live_seat(pod: GpuPod, grant: GrantOnNode | None, state: NodeState) -> Seat:
    gpus = _known(gpus_of(pod, grant), state)
    placed = member(pod, grant, gpus=gpus, policy=state.policy)
    return Seat(who=display_name(pod), priority=pod.demand.priority, member=placed, pod=pod, grant=grant)


def _reported_seat(uid: PodUid, grant: GrantOnNode, pod: GpuPod | None, state: NodeState) -> Seat:
    """A GpuNode entry whose pod the watch has not shown yet, or shows no longer, counts as held."""
    gpus = _known(tuple(GpuUuid(gpu) for gpu in grant.gpus), state)
    held = Member(uid=uid, demand=fixed_demand(grant.held), gpus=gpus, held=grant.held)
    who = f"{grant.namespace}/{grant.pod}" if pod is None else display_name(pod)
    return Seat(who=who, priority=None if pod is None else pod.demand.priority, member=held, pod=None, grant=grant)


def room(state: NodeState, *, unit: int, nominated: Iterable[GpuPod] = ()) -> NodeRoom:
    """Room for the floors of newcomers beside what is kept for `nominated` pods; `unit` is the bytes of a slice."""
    promises = [
        Promise(pod=pod, gpus=pod.nomination.gpus, standing=Standing.NOMINATED)
        for pod in nominated
        if pod.nomination is not None and pod.nomination.node == state.name
    ]
    report = node_report(state.report)
    return occupancy(state.name, report, pods=state.pods, promises=promises, policy=state.policy, unit=unit).room


def _known(gpus: tuple[GpuUuid, ...], state: NodeState) -> tuple[GpuUuid, ...]:
    return tuple(gpu for gpu in gpus if gpu in state.capacities)
