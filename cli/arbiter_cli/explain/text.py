"""How explanations are printed for people. Pure: explanations in, lines out."""

from collections.abc import Iterable, Sequence

from arbiter.demand import format_quality
from arbiter.units import GIB
from arbiter_cli.explain.events import Happening
from arbiter_cli.explain.gpu import GpuExplanation
from arbiter_cli.explain.members import MemberRow
from arbiter_cli.explain.pod import PodExplanation
from arbiter_cli.explain.scene import Move, Outcome
from arbiter_cli.explain.several import Group
from arbiter_cli.explain.told import ToldExplanation
from arbiter_cli.explain.waiting import WaitingExplanation
from arbiter_cli.printing import age, columns

Answer = PodExplanation | ToldExplanation | WaitingExplanation | GpuExplanation | Group


def as_text(answer: Answer) -> str:
    """The whole answer."""
    return "\n".join(_lines(answer))


def _lines(answer: Answer) -> list[str]:
    match answer:
        case PodExplanation():
            return _pod(answer)
        case ToldExplanation():
            return [answer.headline, *_revision(answer), *_events(answer.events), answer.closing, answer.withheld]
        case WaitingExplanation():
            return _waiting(answer)
        case GpuExplanation():
            return [answer.headline, *answer.why, *_members(answer.members), *_changes(answer.changes)]
        case Group():
            return _group(answer)


def _pod(one: PodExplanation) -> list[str]:
    members, changes = _members(one.members), _changes(one.changes)
    return [one.headline, *one.why, *members, *_revision(one), *changes, *_events(one.events), one.closing]


def _revision(one: PodExplanation | ToldExplanation) -> list[str]:
    """The reason that the operator gave."""
    when = "" if one.decided is None else f", {age(one.decided)} ago"
    return [f"Revision {one.revision}{when}: {one.reason}."] if one.reason else []


def _waiting(one: WaitingExplanation) -> list[str]:
    ways = columns([(f"  {way.change}", way.then) for way in one.ways]) if one.ways else []
    heading = ["What would let it in (each line computed by the solver):"] if ways else []
    return [one.headline, *one.why, *heading, *ways, *_events(one.events)]


def _group(group: Group) -> list[str]:
    lines = [f"{group.name}: {group.headline}", *group.problems]
    if group.pods:
        rows = [
            (f"  {row.pod}", row.where, "-" if row.quality is None else format_quality(row.quality), row.standing)
            for row in group.pods
        ]
        lines += columns([("  POD", "GPU", "QUALITY", "STATE"), *rows])
    lines += _events(group.events)
    if group.worst is not None:
        lines += ["", f"pod/{group.worst.pod}", *_lines(group.worst)]
    return lines


def _members(members: Sequence[MemberRow]) -> list[str]:
    if not members:
        return []
    return columns([_member(row) for row in members])


def _member(row: MemberRow) -> tuple[str, ...]:
    return (
        f"  {row.who}",
        row.priority,
        f"floor {row.floor / GIB:4.1f}",
        f"full {row.full / GIB:4.1f}",
        f"has {row.has / GIB:5.2f} GiB",
        "held" if row.quality is None else format_quality(row.quality),
        row.remark,
    )


def _changes(changes: Sequence[Outcome]) -> list[str]:
    if not changes:
        return []
    asked = any(change.quality is not None for change in changes)
    rows = [_outcome(change, asked=asked) for change in changes]
    return ["What would change it (each line computed by the solver):", *columns(rows)]


def _outcome(outcome: Outcome, *, asked: bool) -> tuple[str, ...]:
    others = ", ".join(map(_move, outcome.others))
    if not asked:
        return f"  {outcome.change}", outcome.obstacle or others or "moves nobody"
    quality = "" if outcome.quality is None else format_quality(outcome.quality)
    return f"  {outcome.change}", outcome.obstacle or f"{quality} {f'({others})' if others else ''}".strip()


def _move(move: Move) -> str:
    each = "" if move.pods == 1 else " each" if move.alike else " or more each"
    return f"{move.who} {format_quality(move.after)}{each}"


def _events(events: Iterable[Happening]) -> list[str]:
    rows = [(f"  {age(event.ago)}", event.reason, event.message) for event in events]
    return ["What happened, latest first:", *columns(rows)] if rows else []
