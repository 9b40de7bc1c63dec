"""The sentences about a pod that has a GPU: where it stands, and why. Pure."""

from collections.abc import Mapping
from enum import StrEnum

from arbiter.curves import LOWEST_PRICE
from arbiter.demand import Demand, format_quality
from arbiter.ids import GpuUuid, PodUid
from arbiter.units import GIB, format_bytes, format_mib
from arbiter.workload import Resize
from arbiter_cli.explain.members import gpu_sums
from arbiter_cli.explain.scene import Scene
from arbiter_kube.api.gpunode import GrantState
from arbiter_kube.api.pods import GpuPod
from arbiter_operator.node import NodeState, Seat
from arbiter_operator.targets import is_behind
from arbiter_operator.view import is_converged


class Standing(StrEnum):
    """Where a pod with a GPU stands."""

    DECIDING = "Deciding"
    GATED = "Gated"
    APPLYING = "Applying"
    APPLIED = "Applied"
    HELD = "Held"
    ENDING = "Ending"


def standing_of(pod: GpuPod, seat: Seat) -> Standing:
    """Where a pod on its seat stands."""
    grant = seat.grant
    if pod.terminating:
        return Standing.ENDING
    if grant is not None and grant.state is GrantState.GATED:
        return Standing.GATED
    if pod.grant is None and (grant is None or grant.granted is None):
        return Standing.DECIDING
    if seat.member.held is not None:
        return Standing.HELD
    return Standing.APPLIED if is_converged(pod, grant) else Standing.APPLYING


def headline(seat: Seat, pod: GpuPod, state: NodeState, standing: Standing, called: Mapping[PodUid, str]) -> str:
    """What it has, and what it is on its way to or waits for; `called` names members."""
    where = ", ".join(state.label(gpu) for gpu in seat.member.gpus)
    grant = seat.grant
    if standing is Standing.ENDING:
        held = 0 if grant is None else grant.held
        return f"Is being deleted; may hold {format_mib(held)} on {where} until its processes have ended."
    if standing is Standing.GATED:
        return _gated(seat, pod.demand, state, called)
    if standing is Standing.HELD:
        return f"Held at {format_mib(seat.member.held or 0)} on {where}{_late(seat, state)}."
    return _moving(seat, where, standing, _behind(seat, state, called))


def _late(seat: Seat, state: NodeState) -> str:
    if not is_behind(seat, state) or seat.pod is None or seat.pod.grant is None:
        return ""
    told = seat.pod.grant
    return f"; it was told {told.quality} ({format_mib(told.vram)}), and has not given back in time"


def _moving(seat: Seat, where: str, standing: Standing, behind: str) -> str:
    told, grant = None if seat.pod is None else seat.pod.grant, seat.grant
    if told is None:
        return f"Bound to {where}, no target yet: the operator decides within a second; if it lasts: arbiter doctor."
    goal = f"Quality {told.quality}, {format_mib(told.vram)} on {where}, revision {told.revision}"
    if standing is Standing.APPLIED:
        return f"{goal}, applied."
    if grant is None or grant.granted is None:
        return f"{goal}; its node has granted nothing yet{behind}."
    return f"{goal}, on the way: granted {format_mib(grant.granted)}, may hold {format_mib(grant.held)}{behind}."


def _gated(seat: Seat, demand: Demand, state: NodeState, called: Mapping[PodUid, str]) -> str:
    free = {gpu: state.capacities[gpu] - _held_on(gpu, state) for gpu in seat.member.gpus}
    least = min(free, key=lambda gpu: free[gpu])
    return (
        f"Start held: needs {format_bytes(demand.floor)} on {state.label(least)}, "
        f"{format_mib(max(0, free[least]))} free{_behind(seat, state, called)}."
    )


def _held_on(gpu: GpuUuid, state: NodeState) -> int:
    grants = (seat.grant for seat in state.seats.values() if gpu in seat.member.gpus)
    return sum(grant.held for grant in grants if grant is not None)


def _behind(seat: Seat, state: NodeState, called: Mapping[PodUid, str]) -> str:
    """Who is giving back, and how much."""
    gpus, parts = {*seat.member.gpus}, []
    for uid, other in state.seats.items():
        goal = None if other.pod is None or other.pod.grant is None else other.pod.grant.vram
        if other is seat or goal is None or other.grant is None or not gpus & {*other.member.gpus}:
            continue
        if other.grant.held > goal:
            late = ", and is late with it" if other.grant.state in (GrantState.OVERDUE, GrantState.LATE) else ""
            parts.append(f"{called[uid]} is giving back {format_mib(other.grant.held - goal)}{late}")
    return f"; {', '.join(sorted(parts))}" if parts else ""


def why(seat: Seat, demand: Demand, scene: Scene, dearest: GpuUuid, state: NodeState) -> tuple[str, ...]:
    """Why it has that: the arithmetic of the `dearest` of its GPUs, and what of itself keeps it from moving."""
    sums = gpu_sums(scene, dearest, state)
    if seat.member.held is not None and scene.members[seat.member.uid].held is not None:
        return _why_held(seat, demand, state), f"{sums[0].upper()}{sums[1:]}"
    if demand.is_fixed:
        fixed = "Full and floor are the same: it is fixed at this size, and nobody moves it."
        return fixed, f"{sums[0].upper()}{sums[1:]}"
    tightest = f", on {state.label(dearest)}, the tightest of its GPUs" if len(seat.member.gpus) > 1 else ""
    if scene.equilibrium.prices[dearest].price == LOWEST_PRICE:
        verdict = "Nobody has to give way"
    elif scene.quality(seat.member.uid) == demand.maximum:
        verdict = "Others give way first"
    else:
        verdict = f"Why not {format_quality(demand.maximum)}"
    lines = [f"{verdict}{tightest}: {sums}"]
    if demand.levels:
        steps = ", ".join(f"{format_quality(level.quality)} at {format_bytes(level.vram)}" for level in demand.levels)
        lines.append(f"Its engine runs in steps: {steps}.")
    told, now = None if seat.pod is None else seat.pod.grant, scene.equilibrium.targets[seat.member.uid]
    if told is not None and now.quality is not None and told.vram != now.vram:
        due = f"{format_quality(now.quality)} ({format_mib(now.vram)})"
        lines.append(f"By now {due} is due: the operator tells it within a second; if that lasts: arbiter doctor.")
    return tuple(lines)


def _why_held(seat: Seat, demand: Demand, state: NodeState) -> str:
    if demand.resize is Resize.AT_START:
        return "Its engine is sized once, at its start (resize: AtStart), and keeps that until it restarts."
    if state.policy.sizes_once:
        return f"Policy {state.policy_name or 'none'} sizes everybody once, at the start, and holds it."
    grant = seat.grant
    if grant is not None and grant.state in (GrantState.OVERDUE, GrantState.LATE):
        return "It did not give back in time, and counts as held until it confirms a shrink within its grace."
    return "It has acknowledged no size since its start, and so counts as an engine that cannot move."


def closing(demand: Demand) -> str:
    """What is promised whatever happens."""
    if demand.is_fixed:
        return f"Never below {format_bytes(demand.floor)} while the pod lives."
    return f"Never below {format_quality(demand.minimum)} ({demand.floor / GIB:.1f} GiB) while the pod lives."
