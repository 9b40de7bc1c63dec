"""The members of a GPU as a table, and the arithmetic behind its price. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from arbiter.curves import LOWEST_PRICE
from arbiter.equilibrium import GpuPrice
from arbiter.ids import GpuUuid, PodUid
from arbiter.units import GIB
from arbiter_cli.explain.scene import Scene
from arbiter_kube.api.gpunode import GrantState
from arbiter_operator.node import NodeState, Seat


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow:
    """One member of the GPU that decides; sizes in bytes per GPU. `has` is what its node grants it now.

    `quality` is its target; None where it is held at what it has.
    """

    who: str
    priority: str
    floor: int
    full: int
    has: int
    quality: Fraction | None
    remark: str = ""


def gpu_sums(scene: Scene, gpu: GpuUuid, state: NodeState) -> str:
    """What is asked of a GPU, and what it has: the arithmetic behind its price."""
    price = scene.equilibrium.prices[gpu]
    here = [member for member in scene.members.values() if gpu in member.gpus]
    held = sum(member.held for member in here if member.held is not None)
    wanted = sum(member.demand.full for member in here if member.held is None)
    parts = [f"full sizes add up to {wanted / GIB:.1f} GiB"]
    if held:
        parts.append(f"{held / GIB:.1f} are held")
    parts.append(f"{price.capacity / GIB:.1f} are usable{_headroom(price)}")
    chosen = f" (policy {state.policy_name})" if state.policy_name not in ("", "default") else ""
    over = (
        " Floors and held memory alone are more than it has: everybody is at the minimum."
        if price.overcommitted
        else ""
    )
    return (
        f"{', '.join(parts)}. Price {float(price.price):.3f} ({price.pressure}), "
        f"mode {state.policy.mode}{chosen}.{over}"
    )


def _headroom(price: GpuPrice) -> str:
    if not price.headroom or price.price == LOWEST_PRICE:
        return ""
    return f", {price.headroom / GIB:.1f} of them kept as headroom"


def member_rows(scene: Scene, gpu: GpuUuid, state: NodeState, called: Mapping[PodUid, str]) -> tuple[MemberRow, ...]:
    """Everybody on a GPU, the most important first."""
    here = [seat for seat in state.seats.values() if gpu in seat.member.gpus]
    return tuple(
        _row(seat, scene, called[seat.member.uid])
        for seat in sorted(here, key=lambda seat: (-seat.member.demand.priority.level, called[seat.member.uid]))
    )


def _row(seat: Seat, scene: Scene, who: str) -> MemberRow:
    demand, uid, grant = seat.member.demand, seat.member.uid, seat.grant
    target = scene.equilibrium.targets[uid]
    granted = None if grant is None else grant.granted
    return MemberRow(
        who=who,
        priority=seat.priority.value if seat.priority else "-",
        floor=demand.floor,
        full=demand.full,
        has=target.vram if granted is None else granted,
        quality=target.quality,
        remark=_remark(seat, target.vram),
    )


def _remark(seat: Seat, target: int) -> str:
    grant, pod = seat.grant, seat.pod
    if pod is None:
        return "its pod is over or unknown; holds this until its processes end"
    if pod.terminating:
        return "is being deleted"
    if grant is None or grant.granted is None:
        return "not started yet"
    if grant.state in (GrantState.DOWN, GrantState.STARTING):
        return grant.state.value.lower()
    late = grant.state in (GrantState.OVERDUE, GrantState.LATE)
    behind = f"{grant.state.value.lower()}, may hold {grant.held / GIB:.2f} GiB" if late else ""
    moves = seat.member.held is None and grant.granted != target
    return behind or (f"goes to {target / GIB:.2f} GiB" if moves else "")
