"""How a GPU is shared, and what would change it. Pure: a snapshot in, an explanation out."""

from dataclasses import dataclass
from fractions import Fraction

from arbiter.ids import GpuUuid
from arbiter.units import GIB, format_bytes
from arbiter.workload import MemoryPressure
from arbiter_cli.explain.changes import MOST_NEIGHBOURS, arrivals
from arbiter_cli.explain.members import MemberRow, gpu_sums, member_rows
from arbiter_cli.explain.scene import Outcome, Scene, names, scene_of
from arbiter_cli.snapshot import Snapshot
from arbiter_kube.api.gpunode import GpuStatus
from arbiter_operator.node import NodeState


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuExplanation:
    """The answer for one GPU; sizes in bytes. `free` is the largest floor that a newcomer would find room for."""

    gpu: str
    uuid: str
    model: str
    healthy: bool
    headline: str
    why: tuple[str, ...]
    usable: int
    used: int | None
    free: int
    price: Fraction
    pressure: MemoryPressure
    mode: str
    policy: str
    members: tuple[MemberRow, ...]
    changes: tuple[Outcome, ...]


def explain_gpu(snapshot: Snapshot, state: NodeState, gpu: GpuStatus) -> GpuExplanation:
    """How one GPU of a node is shared."""
    uuid, scene, called = GpuUuid(gpu.uuid), scene_of(state), names(state)
    room = snapshot.rooms.of(state)
    free = next((here.largest_floor(unit=room.unit) for here in room.gpus if here.uuid == uuid), 0)
    price = scene.equilibrium.prices[uuid]
    sums = gpu_sums(scene, uuid, state)
    used = "" if gpu.used is None else f" Measured in use: {gpu.used / GIB:.2f} GiB."
    return GpuExplanation(
        gpu=state.label(uuid),
        uuid=gpu.uuid,
        model=gpu.name,
        healthy=gpu.healthy,
        headline=_headline(state.label(uuid), gpu, scene, uuid),
        why=(f"{sums[0].upper()}{sums[1:]}", f"Room for a floor of {format_bytes(free)} more.{used}"),
        usable=gpu.usable,
        used=gpu.used,
        free=free,
        price=price.price,
        pressure=price.pressure,
        mode=state.policy.mode.value,
        policy=state.policy_name,
        members=member_rows(scene, uuid, state, called),
        changes=(*_departures(scene, uuid, state), *arrivals(scene, (uuid,), room=room, of=None)),
    )


def _headline(label: str, gpu: GpuStatus, scene: Scene, uuid: GpuUuid) -> str:
    members = sum(uuid in member.gpus for member in scene.members.values())
    sharing = {0: "nobody is on it", 1: "1 pod has it alone"}.get(members, f"{members} pods share it")
    ill = "" if gpu.healthy else f"; NOT healthy: {gpu.reason or 'its node does not say why'}"
    return f"{label}, {gpu.name or 'GPU'} {gpu.uuid}: {sharing}, enforcement {gpu.enforcement}{ill}."


def _departures(scene: Scene, gpu: GpuUuid, state: NodeState) -> list[Outcome]:
    called = names(state)
    here = [uid for uid, member in scene.members.items() if gpu in member.gpus]
    left = [scene.outcome(f"{called[uid]} leaves", scene.without(uid), of=None) for uid in here]
    moving = [outcome for outcome in left if outcome.others]
    return sorted(moving, key=lambda outcome: (-_gain(outcome), outcome.change))[:MOST_NEIGHBOURS]


def _gain(outcome: Outcome) -> Fraction:
    return sum(((move.after - move.before) * move.pods for move in outcome.others), Fraction(0))
