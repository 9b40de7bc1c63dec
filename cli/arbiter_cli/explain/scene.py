"""A node's GPUs as the solver takes them, so that a change can be tried on them. Pure: the operator's own solver."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from arbiter.equilibrium import Equilibrium, Member, solve
from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter_operator.node import NodeState, Seat
from arbiter_operator.targets import is_behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """`pods` members called `who` whose lowest quality would change; `alike`: all of them come to the same."""

    who: str
    pods: int
    before: Fraction
    after: Fraction
    alike: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one change would make: of the member that is asked about, and of the others whose quality it moves.

    `obstacle` says why it cannot come to that; `quality` and `vram` (bytes per GPU) are then None, as they are where
    no member is asked about, or it is held.
    """

    change: str
    quality: Fraction | None = None
    vram: int | None = None
    others: tuple[Move, ...] = ()
    obstacle: str = ""


@dataclass(frozen=True, kw_only=True)  # no slots: what follows from it is worked out once and kept
class Scene:
    """GPUs by usable bytes, who is on them, and what members are called: `kinds` by what people wrote."""

    capacities: Mapping[GpuUuid, int]
    members: Mapping[PodUid, Member]
    kinds: Mapping[PodUid, str]
    policy: Policy

    @cached_property
    def equilibrium(self) -> Equilibrium:
        """What the solver makes of it."""
        return solve(self.capacities, self.members.values(), self.policy)

    def quality(self, uid: PodUid) -> Fraction | None:
        """A member's quality in thousandths; None where it is held."""
        return self.equilibrium.targets[uid].quality

    def without(self, uid: PodUid) -> "Scene":
        """The same once a member has left."""
        return replace(self, members={other: member for other, member in self.members.items() if other != uid})

    def changed(self, member: Member) -> "Scene":
        """The same with another demand or hold of one of the members."""
        return replace(self, members={**self.members, member.uid: member})

    def joined_by(self, member: Member, *, kind: str) -> "Scene":
        """The same with one more."""
        return replace(self.changed(member), kinds={**self.kinds, member.uid: kind})

    def with_usable(self, size: int, gpus: Iterable[GpuUuid]) -> "Scene":
        """The same with `size` usable bytes on each of the GPUs."""
        return replace(self, capacities={**self.capacities, **dict.fromkeys(gpus, size)})

    def under(self, policy: Policy) -> "Scene":
        """The same under another policy."""
        return replace(self, policy=policy)

    def outcome(self, change: str, then: "Scene", *, of: PodUid | None) -> Outcome:
        """What `then`, which the `change` makes of this scene, means for one member and for the others."""
        target = None if of is None else then.equilibrium.targets[of]
        return Outcome(
            change=change,
            quality=None if target is None else target.quality,
            vram=None if target is None else target.vram,
            others=tuple(self._moves(then, besides=of)),
        )

    def _moves(self, then: "Scene", *, besides: PodUid | None) -> Iterable[Move]:
        groups: dict[str, list[PodUid]] = {}
        for uid in then.members:
            if uid != besides and then.quality(uid) is not None:
                groups.setdefault(then.kinds[uid], []).append(uid)
        for who, uids in sorted(groups.items()):
            after = [quality for uid in uids if (quality := then.quality(uid)) is not None]
            before = [quality for uid in uids if uid in self.members and (quality := self.quality(uid)) is not None]
            if before and min(before) != min(after):
                yield Move(
                    who=who, pods=len(after), before=min(before), after=min(after), alike=min(after) == max(after)
                )


def scene_of(state: NodeState, *, asked: Seat | None = None) -> Scene:
    """The node as it is; who is asked about and has not given back in time counts as movable, as its target does."""
    members = {uid: seat.member for uid, seat in state.seats.items()}
    if asked is not None and is_behind(asked, state):
        members[asked.member.uid] = replace(asked.member, held=None)
    return Scene(
        capacities=state.capacities,
        members=members,
        kinds={uid: seat.who for uid, seat in state.seats.items()},
        policy=state.policy,
    )


def names(state: NodeState) -> dict[PodUid, str]:
    """What each member is called: as people wrote it, and by its pod where several are of one kind."""
    whos = [seat.who for seat in state.seats.values()]
    return {uid: seat.who if whos.count(seat.who) == 1 else _pod_name(seat) for uid, seat in state.seats.items()}


def _pod_name(seat: Seat) -> str:
    if seat.pod is not None:
        return seat.pod.key
    return seat.who if seat.grant is None else f"{seat.grant.namespace}/{seat.grant.pod}"
