"""Where a pod of an allocation that nobody uses yet would go, and what it and its neighbours would get. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from arbiter.demand import Demand, format_quality
from arbiter.equilibrium import Member, solve
from arbiter.ids import NodeName, PodUid
from arbiter.placement import Choice, Newcomer, NodeRoom, Placement
from arbiter.units import format_mib
from arbiter_operator.node import NodeState
from arbiter_operator.reasons import enumerated
from arbiter_operator.waiting import shortage

_NEWCOMER = PodUid("")


@dataclass(frozen=True, slots=True)
class Prospect:
    """Whether there is room, and the sentence that says where and how, or what is missing."""

    fits: bool
    message: str


class Prospects:
    """Answers by demand, kept until a node changes; nodes that stay as they are cost nothing."""

    def __init__(self) -> None:
        self._placement = Placement()
        self._states: dict[NodeName, NodeState] = {}
        self._rooms: dict[NodeName, NodeRoom] = {}
        self._answers: dict[Demand, Prospect] = {}

    def update(self, nodes: Mapping[NodeName, tuple[NodeState, NodeRoom]]) -> None:
        """The nodes that take pods now; a state that is the same object as before has not changed."""
        for name in [name for name in self._states if name not in nodes]:
            self._placement.remove(name)
            del self._states[name], self._rooms[name]
            self._answers.clear()
        for name, (state, room) in nodes.items():
            if self._states.get(name) is not state:
                self._placement.put(room)
                self._states[name], self._rooms[name] = state, room
                self._answers.clear()

    def of(self, demand: Demand) -> Prospect:
        """What a pod of this demand would find."""
        if demand not in self._answers:
            choice = self._placement.choose(Newcomer(demand=demand))
            self._answers[demand] = self._missing(demand) if choice is None else self._found(demand, choice)
        return self._answers[demand]

    def _missing(self, demand: Demand) -> Prospect:
        labels = {gpu: state.label(gpu) for state in self._states.values() for gpu in state.capacities}
        return Prospect(False, shortage(demand, self._rooms.values(), labels=labels, name=self._name))

    def _found(self, demand: Demand, choice: Choice) -> Prospect:
        state = self._states[choice.node]
        members = [seat.member for seat in state.seats.values()]
        newcomer = Member(uid=_NEWCOMER, demand=demand, gpus=choice.gpus)
        before = solve(state.capacities, members, state.policy).targets
        after = solve(state.capacities, [*members, newcomer], state.policy).targets
        own = after[_NEWCOMER]
        where = ", ".join(state.label(gpu) for gpu in choice.gpus)
        would = f"would get {format_quality(own.quality or demand.maximum)} ({format_mib(own.vram)}) on {where}"
        moves = (
            f"{seat.who} {format_quality(was)} -> {format_quality(now)}"
            for uid, seat in state.seats.items()
            if (was := before[uid].quality) is not None and (now := after[uid].quality) is not None and was != now
        )
        others = enumerated(moves)
        return Prospect(True, f"{would}; {others}" if others else would)

    def _name(self, uid: PodUid) -> str:
        return next((seat.who for state in self._states.values() if (seat := state.seats.get(uid))), str(uid))
