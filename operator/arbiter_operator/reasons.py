"""Why a pod has a new target, in a sentence that names who or what caused it. Pure."""

from collections.abc import Iterable, Mapping

from arbiter.ids import GpuUuid, PodUid
from arbiter.units import format_bytes, format_mib
from arbiter_operator.node import NodeState, Seat


def reason(uid: PodUid, *, before: NodeState | None, after: NodeState) -> str:
    """What happened on the pod's GPUs since `before`: the first of the causes that applies."""
    now = after.seats
    seat = now[uid]
    mates = _sharing(seat, now)
    if seat.pod is not None and seat.pod.grant is None:
        beside = f" beside {_list(mates.values())}" if mates else ""
        return f"placed on {_labels(seat.member.gpus, after)}{beside}"
    was = {} if before is None else before.seats
    if before is None or uid not in was:
        return _standing(seat, mates, after)
    then = _sharing(was[uid], was)
    changed = (
        _own_change(was[uid], seat, after)
        or _policy_change(before, after)
        or _moved(then, mates, seat, after)
        or _neighbour_change(then, mates)
        or _capacity_change(before, after, seat)
    )
    return changed or _standing(seat, mates, after)


def _sharing(seat: Seat, taken: Mapping[PodUid, Seat]) -> dict[PodUid, Seat]:
    """The others on any of its GPUs."""
    return {
        uid: other for uid, other in taken.items() if other is not seat and {*other.member.gpus} & {*seat.member.gpus}
    }


def _own_change(was: Seat, now: Seat, after: NodeState) -> str:
    if was.member.gpus != now.member.gpus:
        return f"its container uses {_labels(now.member.gpus, after)}"
    return "its demand was changed" if was.member.demand != now.member.demand else ""


def _policy_change(before: NodeState, after: NodeState) -> str:
    if before.policy == after.policy:
        return ""
    return f"policy {after.policy_name or 'none'} (mode {after.policy.mode}) applies to {after.name}"


def _moved(then: Mapping[PodUid, Seat], now: Mapping[PodUid, Seat], seat: Seat, after: NodeState) -> str:
    joined = [now[uid] for uid in now.keys() - then.keys()]
    left = [then[uid] for uid in then.keys() - now.keys()]
    where = _labels(seat.member.gpus, after)
    parts = [f"{_list(who)} {verb} {where}" for who, verb in ((joined, "joined"), (left, "left")) if who]
    return "; ".join(parts)


def _neighbour_change(then: Mapping[PodUid, Seat], now: Mapping[PodUid, Seat]) -> str:
    common = sorted(then.keys() & now.keys())
    edited = [now[uid] for uid in common if then[uid].member.demand != now[uid].member.demand]
    if edited:
        return f"the demand of {_list(edited)} was changed"
    held = [now[uid] for uid in common if then[uid].member.held != now[uid].member.held]
    return "; ".join(_hold(seat) for seat in held)


def _hold(seat: Seat) -> str:
    held = seat.member.held
    return f"{_name(seat)} can move again" if held is None else f"{_name(seat)} holds {format_mib(held)}"


def _capacity_change(before: NodeState, after: NodeState, seat: Seat) -> str:
    changed = [gpu for gpu in seat.member.gpus if before.capacities.get(gpu) != after.capacities[gpu]]
    return "; ".join(f"{after.label(gpu)} has {format_bytes(after.capacities[gpu])} usable" for gpu in changed)


def _standing(seat: Seat, mates: Mapping[PodUid, Seat], state: NodeState) -> str:
    """Without a former state to compare with: how things stand."""
    where = _labels(seat.member.gpus, state)
    return f"shares {where} with {_list(mates.values())}" if mates else f"alone on {where}"


_NAMED = 3


def enumerated(names: Iterable[str]) -> str:
    """The first names, and how many more there are: a GPU may have more members than a sentence can hold."""
    everybody = sorted(names)
    rest = len(everybody) - _NAMED
    return ", ".join(everybody[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _list(who: Iterable[Seat]) -> str:
    return enumerated(_name(seat) for seat in who)


def _name(seat: Seat) -> str:
    return seat.who if seat.priority is None else f"{seat.who} ({seat.priority.value})"


def _labels(gpus: Iterable[GpuUuid], state: NodeState) -> str:
    return ", ".join(state.label(gpu) for gpu in gpus)
