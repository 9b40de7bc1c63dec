"""What would change a pod's quality: each change is made, and the solver asked. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from math import ceil

from arbiter.equilibrium import Member
from arbiter.ids import GpuUuid, PodUid
from arbiter.placement import NodeRoom
from arbiter.units import GIB, format_bytes
from arbiter.workload import PolicyMode, Priority
from arbiter_cli.explain.scene import Outcome, Scene

_NEWCOMER = PodUid("one more")

MOST_NEIGHBOURS = 3
"""Of neighbours that might leave, and of kinds of which one more might come, those that matter most."""

_STEPS_OF_GIB = 10


def changes_for(scene: Scene, uid: PodUid, *, names: Mapping[PodUid, str], room: NodeRoom) -> list[Outcome]:
    """Everything that would move the quality of one member, and what one more of each kind beside it would do.

    `room` is that for newcomers on its node, `names` what members are called.
    """
    member = scene.members[uid]
    if member.held is not None:
        again = scene.changed(replace(member, held=None))
        return [scene.outcome("its restart", again, of=uid)]
    now = scene.quality(uid)
    tried = (
        *_departures(scene, uid, names),
        *_more_memory(scene, member),
        *_priorities(scene, member),
        *_modes(scene, uid),
    )
    moving = [outcome for outcome in tried if outcome.quality != now]
    return [*moving, *arrivals(scene, member.gpus, room=room, of=uid)]


def _departures(scene: Scene, uid: PodUid, names: Mapping[PodUid, str]) -> list[Outcome]:
    gpus = {*scene.members[uid].gpus}
    mates = [mate for mate, member in scene.members.items() if mate != uid and gpus & {*member.gpus}]
    # Of those that are alike one speaks for all.
    alike = {
        (scene.kinds[mate], scene.members[mate].demand, scene.members[mate].held): mate for mate in reversed(mates)
    }
    left = [scene.outcome(f"{names[mate]} leaves", scene.without(mate), of=uid) for mate in alike.values()]
    return sorted(left, key=lambda outcome: (-(outcome.quality or 0), outcome.change))[:MOST_NEIGHBOURS]


def _more_memory(scene: Scene, member: Member) -> Iterator[Outcome]:
    """The least usable memory, in tenths of a GiB, that gives its maximum; more harms nobody, so halving finds it."""

    def maximum_at(steps: int) -> bool:
        return _with_steps(scene, member, steps).quality(member.uid) == member.demand.maximum

    low = min(scene.capacities[gpu] for gpu in member.gpus) * _STEPS_OF_GIB // GIB
    wanted = sum(max(other.demand.full, other.held or 0) for other in scene.members.values())
    threshold = scene.policy.pressure_threshold or Fraction(1)
    high = ceil(wanted / threshold * _STEPS_OF_GIB / GIB)
    if high <= low or not maximum_at(high):
        return
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if maximum_at(middle) else (middle, high)
    each = " on each of its GPUs" if len(member.gpus) > 1 else ""
    then = _with_steps(scene, member, high)
    yield scene.outcome(f"{high / _STEPS_OF_GIB:.1f} GiB usable{each}", then, of=member.uid)


def _with_steps(scene: Scene, member: Member, steps: int) -> Scene:
    return scene.with_usable(steps * GIB // _STEPS_OF_GIB, member.gpus)


def _priorities(scene: Scene, member: Member) -> Iterator[Outcome]:
    """One step up, and the highest."""
    above = [priority for priority in Priority if priority > member.demand.priority]
    for priority in dict.fromkeys([*above[:1], *above[-1:]]):
        promoted = replace(member, demand=replace(member.demand, priority=priority))
        yield scene.outcome(f"priority {priority.value}", scene.changed(promoted), of=member.uid)


def _modes(scene: Scene, uid: PodUid) -> Iterator[Outcome]:
    policy = scene.policy
    if policy.sizes_once:
        return
    for mode in PolicyMode:
        if mode not in (policy.mode, PolicyMode.FIXED):
            yield scene.outcome(f"mode {mode}", scene.under(replace(policy, mode=mode)), of=uid)
    if policy.pressure_threshold != 1:
        yield scene.outcome("pressureThreshold 1", scene.under(replace(policy, pressure_threshold=Fraction(1))), of=uid)


def arrivals(scene: Scene, gpus: Iterable[GpuUuid], *, room: NodeRoom, of: PodUid | None) -> Iterator[Outcome]:
    """One more of each kind that is on the GPUs, the kind asked about first."""
    here = {*gpus}
    models: dict[str, Member] = {}
    for uid in sorted(scene.members, key=lambda uid: (uid != of, scene.kinds[uid], uid)):
        member = scene.members[uid]
        if here & {*member.gpus} and member.held is None:
            models.setdefault(scene.kinds[uid], member)
    for kind, model in [*models.items()][:MOST_NEIGHBOURS]:
        change = f"one more {kind}"
        free = min((gpu.largest_floor(unit=room.unit) for gpu in room.gpus if gpu.uuid in model.gpus), default=0)
        if free < model.demand.floor:
            floor = format_bytes(model.demand.floor)
            yield Outcome(change=change, obstacle=f"has no room here: floor {floor}, {format_bytes(free)} free")
            continue
        newcomer = replace(model, uid=_NEWCOMER, name="")
        yield scene.outcome(change, scene.joined_by(newcomer, kind=kind), of=of)
