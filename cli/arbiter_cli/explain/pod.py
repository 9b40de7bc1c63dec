"""Why a pod that has a GPU has this quality, and what would change it. Pure: a snapshot in, an explanation out."""

from dataclasses import dataclass
from fractions import Fraction

from arbiter.workload import MemoryPressure
from arbiter_cli.explain.changes import changes_for
from arbiter_cli.explain.events import Happening
from arbiter_cli.explain.members import MemberRow, member_rows
from arbiter_cli.explain.scene import Outcome, names, scene_of
from arbiter_cli.explain.sentences import Standing, closing, headline, standing_of, why
from arbiter_cli.kinds import TimedPod
from arbiter_cli.snapshot import Snapshot
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.node import NodeState


@dataclass(frozen=True, slots=True, kw_only=True)
class PodExplanation:
    """The answer for one pod; sizes in bytes per GPU, ages in seconds.

    `reason` is what the operator gave for this revision. `price`, `pressure` and `members` are those of the tightest
    of its GPUs.
    """

    pod: str
    standing: Standing
    headline: str
    why: tuple[str, ...]
    quality: Fraction | None
    vram: int | None
    granted: int | None
    held: int | None
    measured: int | None
    minimum: Fraction
    maximum: Fraction
    floor: int
    full: int
    gpus: tuple[str, ...]
    revision: int | None
    reason: str
    decided: float | None
    price: Fraction
    pressure: MemoryPressure
    mode: str
    policy: str
    members: tuple[MemberRow, ...]
    changes: tuple[Outcome, ...]
    closing: str
    events: tuple[Happening, ...] = ()


def explain_pod(
    snapshot: Snapshot, pod: TimedPod, seen: GpuPod, state: NodeState, *, events: tuple[Happening, ...] = ()
) -> PodExplanation | None:
    """Why the pod has what it has; None where its node does not know its GPUs."""
    seat = state.seats.get(seen.uid)
    if seat is None or seat.pod is None:
        return None
    scene = scene_of(state, asked=seat)
    called = names(state)
    prices = scene.equilibrium.prices
    dearest = max(seat.member.gpus, key=lambda gpu: prices[gpu].price)
    told, grant = seen.grant, seat.grant
    standing = standing_of(seen, seat)
    return PodExplanation(
        pod=seen.key,
        standing=standing,
        headline=headline(seat, seen, state, standing, called),
        why=why(seat, seen.demand, scene, dearest, state),
        quality=scene.quality(seen.uid),
        vram=scene.equilibrium.targets[seen.uid].vram,
        granted=None if grant is None else grant.granted,
        held=None if grant is None else grant.held,
        measured=None if grant is None else grant.measured,
        minimum=seen.demand.minimum,
        maximum=seen.demand.maximum,
        floor=seen.demand.floor,
        full=seen.demand.full,
        gpus=tuple(state.label(gpu) for gpu in seat.member.gpus),
        revision=None if told is None else told.revision,
        reason="" if told is None else told.reason,
        decided=None if pod.decided_at is None else max(0.0, snapshot.at - pod.decided_at),
        price=prices[dearest].price,
        pressure=prices[dearest].pressure,
        mode=state.policy.mode.value,
        policy=state.policy_name,
        members=member_rows(scene, dearest, state, called),
        changes=tuple(
            []
            if seen.demand.is_fixed or seen.terminating
            else changes_for(scene, seen.uid, names=called, room=snapshot.rooms.of(state))
        ),
        closing=closing(seen.demand),
        events=events,
    )
