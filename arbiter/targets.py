"""The equilibrium where some have not given back in time: held for everybody else, and still asked to.

Pure. Imports the equilibrium.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from arbiter.equilibrium import Equilibrium, Member, Target, solve
from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy

Solve = Callable[[Mapping[GpuUuid, int], Iterable[Member], Policy], Equilibrium]


def solve_with_behind(
    capacities: Mapping[GpuUuid, int],
    members: Iterable[Member],
    policy: Policy,
    *,
    behind: Collection[PodUid],
    solve: Solve = solve,
) -> Equilibrium:
    """`solve`, with targets of their own for those of the held members that are `behind` with giving back.

    Theirs is what each should come to as if it alone of them could move: else it would swing between held and movable.
    """
    everybody = tuple(members)
    solved = solve(capacities, everybody, policy)
    asked = {
        member.uid: _own_target(member, capacities, everybody, policy) for member in everybody if member.uid in behind
    }
    return replace(solved, targets={**solved.targets, **asked}) if asked else solved


def _own_target(
    member: Member, capacities: Mapping[GpuUuid, int], everybody: Iterable[Member], policy: Policy
) -> Target:
    alone = replace(member, held=None)
    members = (alone if other is member else other for other in everybody)
    return solve(capacities, members, policy).targets[member.uid]
