"""The index that placement asks, in step with the ledger: read anew node by node, before a question or in spare time.

Plain state without I/O. Imports the core and the API models.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from arbiter.ids import NodeName, PodUid
from arbiter.placement import NodeRoom, Placement, Strategy
from arbiter_kube.api.occupancy import NodeOccupancy


class Read(Protocol):
    """Reads one node."""

    def __call__(self, name: NodeName, *, besides: PodUid | None = None) -> NodeOccupancy | None:
        """What there is, the claims of `besides` left out; None while its agent has not reported."""


class Rooms:
    """The room on every node."""

    def __init__(self, read: Read, *, strategy: Strategy) -> None:
        self._read = read
        self._placement = Placement(strategy)
        self._known: dict[NodeName, NodeRoom] = {}
        """As they are in the index."""
        self._stale: set[NodeName] = set()
        self._outdated: set[NodeName] = set()

    def changed(self, name: NodeName) -> None:
        """Claims or GPUs of a node did: it is read before anybody asks."""
        self._stale.add(name)

    def may_have_changed(self, names: Iterable[NodeName]) -> None:
        """The policy of these may be another. That is all at once, and floors are safe by either: they may wait."""
        self._outdated.update(names)

    def placement(self, *, kept: Iterable[NodeName], besides: PodUid) -> Placement:
        """The index, what is `kept` on some nodes for the pod `besides` left out; good until the next change."""
        while self._stale:
            self._put(self._stale.pop(), besides=None)
        for name in kept:
            self._put(name, besides=besides)
            self._stale.add(name)
        return self._placement

    def settle(self, *, at_most: int | None = None) -> bool:
        """Brings up to `at_most` nodes up to date, all by default; whether nothing is left to do."""
        done = 0
        while (waiting := self._stale or self._outdated) and (at_most is None or done < at_most):
            self._put(waiting.pop(), besides=None)
            done += 1
        return not waiting

    def _put(self, name: NodeName, *, besides: PodUid | None) -> None:
        self._outdated.discard(name)
        there = self._read(name, besides=besides)
        if there is None:
            self._placement.remove(name)
            self._known.pop(name, None)
            return
        known = self._known.get(name)
        room = there.room if known is None else _with_gpus_of(known, there.room)
        # A claim that becomes firmer leaves the room as it was.
        if room != known:
            self._known[name] = room
            self._placement.put(room)


def _with_gpus_of(known: NodeRoom, room: NodeRoom) -> NodeRoom:
    """The room with the known GPUs in the place of equal ones: the index works out anew what is another object."""
    before = {gpu.uuid: gpu for gpu in known.gpus}
    return replace(room, gpus=tuple(old if (old := before.get(gpu.uuid)) == gpu else gpu for gpu in room.gpus))
