"""The targets of one node's pods: the equilibrium of who sits there, and what of it is new. Pure, without memory.

Two leaders, or one before and after a restart, decide the same; only the sentence that gives the reason looks at what
was known before.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from arbiter.demand import format_quality
from arbiter.equilibrium import GpuPrice, Solver, Target
from arbiter.ids import GpuUuid
from arbiter.targets import solve_with_behind
from arbiter_kube.api.annotations import GPUS, TargetGrant, encode_gpus, target_annotations
from arbiter_kube.api.gpunode import GrantState
from arbiter_kube.api.members import gpus_of
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.node import NodeState, Seat
from arbiter_operator.reasons import reason

_BEHIND = (GrantState.OVERDUE, GrantState.LATE)
"""States of a container that has not given back in time: held for the others, but still asked."""

_SOLVER = Solver(kept=16384)
"""Of every GPU of 2,000 nodes: a change on one GPU solves no other of its node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTarget:
    """A pod whose annotations have to change: to a new target, to the GPUs that it really has, or both."""

    pod: GpuPod
    grant: TargetGrant | None = None
    gpus: tuple[GpuUuid, ...] | None = None

    @property
    def annotations(self) -> dict[str, str]:
        """What to write."""
        corrected = {} if self.gpus is None else {GPUS: encode_gpus(self.gpus)}
        return corrected | ({} if self.grant is None else target_annotations(self.grant))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """What one node's pods should be told, and the price of each GPU."""

    changes: tuple[PodTarget, ...]
    prices: Mapping[GpuUuid, GpuPrice]


def plan(state: NodeState, *, before: NodeState | None = None) -> NodePlan:
    """What to write on the node's pods; `before` is the state of the last plan and gives reasons only."""
    taken = state.seats
    members = [seat.member for seat in taken.values()]
    behind = {uid for uid, seat in taken.items() if is_behind(seat, state)}
    solved = solve_with_behind(state.capacities, members, state.policy, behind=behind, solve=_SOLVER.solve)
    changes = []
    for uid, seat in taken.items():
        if seat.pod is None or seat.pod.terminating:
            continue
        change = PodTarget(
            pod=seat.pod,
            grant=_new_grant(seat, seat.pod, solved.targets[uid], prices=solved.prices, state=state, before=before),
            gpus=_corrected(seat, seat.pod),
        )
        if change.grant is not None or change.gpus is not None:
            changes.append(change)
    return NodePlan(changes=tuple(changes), prices=solved.prices)


def is_behind(seat: Seat, state: NodeState) -> bool:
    """Whether its container has not given back in time: its own target is solved as if it alone of those could move."""
    moves = state.policy.resizes(seat.member.demand.resize)
    return moves and seat.grant is not None and seat.grant.state in _BEHIND


def _new_grant(
    seat: Seat,
    pod: GpuPod,
    target: Target,
    *,
    prices: Mapping[GpuUuid, GpuPrice],
    state: NodeState,
    before: NodeState | None,
) -> TargetGrant | None:
    """The target to write; None where the member is held, or nothing of it changes."""
    if target.quality is None:
        return None
    quality, known = format_quality(target.quality), pod.grant
    if known is not None and (known.quality, known.vram) == (quality, target.vram):
        return None
    dearest = max((prices[gpu] for gpu in seat.member.gpus), key=lambda price: price.price)
    return TargetGrant(
        quality=quality,
        vram=target.vram,
        revision=(known.revision if known is not None else 0) + 1,
        pressure=dearest.pressure,
        mode=state.policy.mode.value,
        reason=reason(pod.uid, before=before, after=state),
    )


def _corrected(seat: Seat, pod: GpuPod) -> tuple[GpuUuid, ...] | None:
    """The GPUs that the pod's container uses, where these are not those that it was bound with."""
    real = gpus_of(pod, seat.grant)
    return None if real == pod.gpus else real
