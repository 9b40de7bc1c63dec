"""One pod of a GpuAllocation with all that its status tells of it. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from arbiter.demand import QUALITY_STEP
from arbiter.ids import NodeName, PodUid
from arbiter_kube.api.gpunode import GrantOnNode, GrantState
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.node import NodeState
from arbiter_operator.waiting import Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """A pod and what surrounds it.

    `where` names its GPUs (``gpu-1/0``), or its node where nobody says which they are, `mates` who shares them,
    `shortage` what it waits for, empty where a GPU has room; `applied_after` is how many seconds its last target took
    to be applied, where this process saw both.
    """

    pod: GpuPod
    grant: GrantOnNode | None = None
    where: str = ""
    mates: tuple[str, ...] = ()
    waiting: Waiting | None = None
    shortage: str = ""
    applied_after: float | None = None

    @property
    def is_placed(self) -> bool:
        """Whether its node granted it memory."""
        return self.grant is not None and self.grant.granted is not None

    @property
    def quality(self) -> Fraction | None:
        """What it may use now; until its node says so, its target."""
        if self.grant is not None and self.grant.quality is not None:
            return round(Fraction(self.grant.quality) / QUALITY_STEP) * QUALITY_STEP
        return Fraction(self.pod.grant.quality) if self.pod.grant is not None else None

    @property
    def is_converged(self) -> bool:
        """Whether its container has what was decided."""
        return is_converged(self.pod, self.grant)


def is_converged(pod: GpuPod, grant: GrantOnNode | None) -> bool:
    """Whether the pod's container has what was decided, or is one that does not move any more."""
    if grant is None or grant.granted is None:
        return False
    if pod.grant is None or grant.state is GrantState.HELD:
        return True
    return grant.granted == pod.grant.vram and grant.applied == grant.granted


def pod_views(
    pods: Iterable[GpuPod],
    *,
    node_state: Callable[[NodeName], NodeState | None],
    waits: Mapping[PodUid, tuple[Waiting, str]],
    applied_after: Callable[[GpuPod], float | None],
) -> list[PodView]:
    """The pods with what surrounds them; `waits` has who waits, and the shortage that it waits for."""
    views = []
    for pod in pods:
        state = None if pod.node is None else node_state(pod.node)
        if state is None:
            wait, short = waits.get(pod.uid, (None, ""))
            views.append(PodView(pod=pod, where=pod.node or "", waiting=wait, shortage=short))
            continue
        views.append(_placed_view(pod, state, applied_after=applied_after(pod)))
    return views


def _placed_view(pod: GpuPod, state: NodeState, *, applied_after: float | None) -> PodView:
    seat = state.seats.get(pod.uid)
    if seat is None:
        return PodView(pod=pod, where=state.name)
    gpus = {*seat.member.gpus}
    mates = sorted(other.who for uid, other in state.seats.items() if uid != pod.uid and gpus & {*other.member.gpus})
    return PodView(
        pod=pod,
        grant=seat.grant,
        where=", ".join(state.label(gpu) for gpu in seat.member.gpus),
        mates=tuple(mates),
        applied_after=applied_after,
    )
