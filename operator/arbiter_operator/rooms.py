"""The nodes' rooms for newcomers, each worked out once for as long as its node stays as it is. No I/O."""

from collections.abc import Container

from arbiter.ids import NodeName
from arbiter.placement import NodeRoom
from arbiter_operator.node import NodeState, room


class Rooms:
    """By node; a state that is the same object as before has not changed."""

    def __init__(self, *, unit: int) -> None:
        """`unit` is the bytes of one slice."""
        self._unit = unit
        self._known: dict[NodeName, tuple[NodeState, NodeRoom]] = {}

    def of(self, state: NodeState) -> NodeRoom:
        """The room of a node in this state."""
        known = self._known.get(state.name)
        if known is None or known[0] is not state:
            known = self._known[state.name] = (state, room(state, unit=self._unit))
        return known[1]

    def keep_only(self, nodes: Container[NodeName]) -> None:
        """Forgets the nodes that are not among these."""
        for name in [name for name in self._known if name not in nodes]:
            del self._known[name]
