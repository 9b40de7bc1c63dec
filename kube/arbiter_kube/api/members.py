"""From a pod, and what its node says of it, to a member of its GPU's equilibrium.

The operator's targets, the extender's room and `arbiter explain` all read the node's word here, in one way.
"""

from arbiter.equilibrium import Member
from arbiter.ids import GpuUuid
from arbiter.policy import Policy
from arbiter_kube.api.gpunode import GrantOnNode, GrantState
from arbiter_kube.api.pods import GpuPod
from arbiter_kube.api.reports import GrantReport

Grant = GrantOnNode | GrantReport

_GIVES_WAY = (GrantState.GATED, GrantState.STARTING, GrantState.MOVABLE, GrantState.DOWN)
"""States in which an InPlace container's size may still be moved, or will be when it starts."""


def gpus_of(pod: GpuPod, grant: Grant | None) -> tuple[GpuUuid, ...]:
    """The pod's GPUs: those that its node says its container uses, and until the node knows that, those of its Binding.

    The kubelet's slices do not tell: their list has no UIDs, and some may be of GPUs that the container does not use.
    """
    if grant is None or not grant.gpus or {*grant.gpus} == {*pod.gpus}:
        return pod.gpus
    return tuple(GpuUuid(gpu) for gpu in grant.gpus)


def member(pod: GpuPod, grant: Grant | None, *, gpus: tuple[GpuUuid, ...], policy: Policy) -> Member:
    """The pod as a member of `gpus`: movable, or held at what it may hold."""
    return Member(uid=pod.uid, demand=pod.demand, gpus=gpus, held=_held(pod, grant, policy=policy), name=pod.key)


def _held(pod: GpuPod, grant: Grant | None, *, policy: Policy) -> int | None:
    if grant is None or grant.granted is None:
        return None
    if pod.terminating:
        return grant.held
    if policy.resizes(pod.demand.resize) and grant.state in _GIVES_WAY:
        return None
    return max(pod.demand.floor, grant.held, grant.measured or 0)


def admission_bytes(pod: GpuPod, grant: Grant | None, *, policy: Policy) -> int:
    """Bytes per GPU that a newcomer cannot have: the floor of who gives way, what everybody else may hold.

    Who is sized once counts in full until its node says what it was given: it may start before it is known there that
    somebody follows, and gives nothing back.
    """
    may_start = not pod.terminating and (grant is None or grant.granted is None)
    if may_start and not policy.resizes(pod.demand.resize):
        return pod.demand.full
    if grant is None or grant.movable or grant.state is GrantState.DOWN:
        return pod.demand.floor
    return max(pod.demand.floor, grant.held, grant.measured or 0)
