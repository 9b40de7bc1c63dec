"""What must hold whatever happens, held against what was seen. Pure; shares no line with what it judges.

Each rule returns a sentence for everything that is wrong.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping

from hack.journal import Step, StepKind, peak_use
from tests.cluster.chaos.history import GrantSeen, History, Moment, NodeSeen, PodSeen
from tests.cluster.chaos.reference import Member, Rules, equilibrium

_MOVES = ("Gated", "Starting", "Movable", "Down")
"""States of a container whose size may still be moved, or will be when it starts."""

_BEHIND = ("Overdue", "Late")
"""States of one that was too slow: everybody else counts on what it holds, and it is told where to go all the same."""

_TOLERANCE = 0.001 + 1e-9
_QUALITY_ROUNDING = 0.0015


def byte_held_twice(history: History) -> Iterator[str]:
    """At no instant may the containers of a GPU use more bytes together than it has, by their own journals."""
    for gpu, usable in _usable(history).items():
        here = {uid: steps for uid, steps in history.journals.items() if any(gpu in step.gpus for step in steps)}
        peak = peak_use(here)
        if peak.vram > usable:
            yield f"at {peak.time}, {gpu} of {usable} bytes had {dict(peak.holders)}"


def promised_twice(history: History) -> Iterator[str]:
    """No version of a GpuNode may promise more bytes of a GPU than it has, or had when it promised them."""
    before: dict[str, int] = {}
    for node in history.nodes:
        for gpu, usable in node.usable.items():
            held = {grant.uid: grant.held for grant in node.grants if gpu in grant.gpus}
            promised, was = sum(held.values()), before.get(gpu, 0)
            before[gpu] = promised
            if promised > max(usable, was):
                yield f"at {node.time}, {node.name} promised of {gpu}, which has {usable} bytes, {held}"


def target_out_of_bounds(history: History) -> Iterator[str]:
    """Every target that is written lies within the demand that the pod carries in that version."""
    revisions: dict[str, int] = {}
    for pod in history.pods:
        before = revisions.get(pod.uid, 0)
        if pod.revision < before:
            yield f"at {pod.time}, {pod.name} went back from revision {before} to {pod.revision}"
        revisions[pod.uid] = max(before, pod.revision)
        if pod.revision > before and pod.demand and pod.target is not None and pod.vram is not None:
            demand = pod.demand
            if not demand.minimum - _QUALITY_ROUNDING <= pod.target <= demand.maximum:
                yield f"at {pod.time}, {pod.name} had target {pod.target}, of {demand}"
            if not demand.floor <= pod.vram <= demand.full:
                yield f"at {pod.time}, {pod.name} had target {pod.vram} bytes, of {demand}"


def told_out_of_bounds(history: History) -> Iterator[str]:
    """No container is ever told less than the least floor, or more than the greatest size, that its pod carried."""
    floors: dict[str, int] = {}
    fulls: dict[str, int] = {}
    names: dict[str, str] = {}
    for pod in history.pods:
        if pod.demand:
            names[pod.uid] = pod.name
            floors[pod.uid] = min(pod.demand.floor, floors.get(pod.uid, pod.demand.floor))
            fulls[pod.uid] = max(pod.demand.full, fulls.get(pod.uid, pod.demand.full))
    for uid, steps in history.journals.items():
        for step in steps:
            if step.kind is StepKind.TOLD and uid in names and not floors[uid] <= step.vram <= fulls[uid]:
                yield f"at {step.time}, {names[uid]} was told {step.vram} bytes, of {floors[uid]} to {fulls[uid]}"


def told_backwards(history: History) -> Iterator[str]:
    """Within one start of a container revisions only rise."""
    for uid, steps in history.journals.items():
        last = 0
        for step in steps:
            if step.kind is StepKind.STARTED:
                last = 0
            elif step.kind is StepKind.TOLD:
                if step.revision <= last:
                    yield f"at {step.time}, {uid} was told revision {step.revision} after {last}"
                last = step.revision


def pod_failed(history: History, *, excused: Callable[[PodSeen], bool]) -> Iterator[str]:
    """Nobody fails or is started again but for reasons of the kubelet's own, or because it was deleted."""
    for pod in {pod.uid: pod for pod in history.pods if pod.phase == "Failed" and not pod.terminating}.values():
        if not excused(pod):
            yield f"at {pod.time}, {pod.name} had failed: {pod.reason}"
    for pod in {pod.uid: pod for pod in history.pods if pod.restarts}.values():
        yield f"at {pod.time}, {pod.name} had been started again {pod.restarts} times"


def unheard_by_a_kubelet(now: Moment) -> Iterator[str]:
    """Who has been bound or deleted, and no kubelet has acted on it yet."""
    for pod in now.pods.values():
        if pod.terminating:
            yield f"{pod.name} has not gone yet"
        elif pod.node is not None and pod.heard_at is None:
            yield f"{pod.name} was not seen by the kubelet of {pod.node} yet"


def crowded(now: Moment) -> Iterator[str]:
    """GPUs on which somebody waits for bytes that nobody gives back: somebody leaves after the policy's grace."""
    for node in now.nodes.values():
        grants = {grant.uid: grant for grant in node.grants}
        members = _members(node, now)
        waiting = [uid for uid in members if uid not in grants or grants[uid].granted is None]
        for gpu, usable in node.usable.items():
            kept = sum(max(one.demand.floor, one.held or 0) for one in members.values() if gpu in one.gpus)
            names = [members[uid].name for uid in waiting if gpu in members[uid].gpus]
            if names and kept > usable:
                yield f"{', '.join(names)} cannot start: {kept} bytes stay on {gpu}, which has {usable}"


def not_converged(now: Moment, *, prompt: Collection[str] = ()) -> Iterator[str]:
    """Everybody has the target that follows from who is there, and who can move has been told it.

    `prompt` names the pods whose engines are honest and quick: nobody may count them among those that do not move.
    """
    for pod in _live(now):
        if pod.node is not None and not pod.gpus:
            yield f"{pod.name} is bound without GPUs"
    for node in now.nodes.values():
        yield from _unlike_the_equilibrium(node, now, prompt)


def _unlike_the_equilibrium(node: NodeSeen, now: Moment, prompt: Collection[str]) -> Iterator[str]:
    rules = _rules_on(node.name, now)
    grants = {grant.uid: grant for grant in node.grants}
    members = _members(node, now)
    for grant in node.grants:
        if grant.uid not in members and grant.held:
            yield f"{node.name} says that {grant.uid}, which is gone, holds {grant.held} bytes"
    solved = equilibrium(node.usable, members.values(), rules)
    for pod in _placed(node, now):
        known = grants.get(pod.uid)
        state = "unknown to its node" if known is None else known.state
        moves = not rules.sizes_once
        if pod.name in prompt and moves and state != "Movable":
            yield f"{pod.name}, honest and quick, is {state}"
        wanted = _alone(pod, members, node, rules) if state in _BEHIND and moves else solved.get(pod.uid)
        if wanted is None:
            continue
        if pod.target is None or abs(pod.target - wanted) > _TOLERANCE:
            yield f"{pod.name} should be at {wanted}, its target is {pod.target}"
        told = now.told.get(pod.uid)
        if state in _MOVES and (told is None or abs(told.quality - wanted) > _TOLERANCE):
            yield f"{pod.name} should be at {wanted}, it was told {told and told.quality}"


def _alone(pod: PodSeen, members: Mapping[str, Member], node: NodeSeen, rules: Rules) -> float:
    """What one that is behind is told: as if it alone of those could move."""
    mine = members[pod.uid]
    moved = Member(uid=mine.uid, name=mine.name, demand=mine.demand, gpus=mine.gpus)
    return equilibrium(node.usable, [*(m for m in members.values() if m is not mine), moved], rules)[pod.uid]


def _live(now: Moment) -> list[PodSeen]:
    return [pod for pod in now.pods.values() if pod.phase not in ("Succeeded", "Failed")]


def _placed(node: NodeSeen, now: Moment) -> list[PodSeen]:
    return [pod for pod in _live(now) if pod.node == node.name and pod.gpus]


def _members(node: NodeSeen, now: Moment) -> dict[str, Member]:
    rules, grants = _rules_on(node.name, now), {grant.uid: grant for grant in node.grants}
    return {pod.uid: _member(pod, grants.get(pod.uid), now, rules) for pod in _placed(node, now)}


def _member(pod: PodSeen, grant: GrantSeen | None, now: Moment, rules: Rules) -> Member:
    demand = now.wanted.get(pod.allocation or "") or pod.demand
    assert demand is not None
    is_held = grant is not None and grant.granted is not None and (rules.sizes_once or grant.state not in _MOVES)
    held = max(demand.floor, grant.held, grant.measured) if grant is not None and is_held else None
    return Member(uid=pod.uid, name=pod.name, demand=demand, gpus=pod.gpus, held=held)


def _rules_on(node: str, now: Moment) -> Rules:
    selecting = [policy for policy in now.policies.values() if policy.node in (None, node)]
    return min(selecting, key=lambda policy: (-policy.weight, policy.name)).rules if selecting else Rules()


def _usable(history: History) -> dict[str, int]:
    usable: dict[str, int] = defaultdict(int)
    for node in history.nodes:
        for gpu, size in node.usable.items():
            usable[gpu] = max(usable[gpu], size)
    return usable


def last_told(journals: Mapping[str, list[Step]]) -> dict[str, Step]:
    """The last grant that each container read."""
    told = ((uid, step) for uid, steps in journals.items() for step in steps if step.kind is StepKind.TOLD)
    return dict(told)
