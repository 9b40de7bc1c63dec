"""The transition engine: applies one event, then lets the rules act, and answers with what is to be done.

Imports the package's rules and the core's data types.
"""

from collections.abc import Iterable, Mapping

from arbiter.ids import GpuUuid
from arbiter.policy import Policy
from arbiter.transitions.actions import Action, GrantStatus
from arbiter.transitions.events import Event
from arbiter.transitions.record import Record


class Engine:
    """One node's containers and their grants.

    `usable` are bytes per GPU, `names` what people call the GPUs (``gpu-1/0``), `records` what was saved before,
    `now` and every other time seconds of one clock that survives restarts (the wall clock).
    """

    def __init__(
        self,
        *,
        usable: Mapping[GpuUuid, int],
        policy: Policy,
        now: float,
        records: Iterable[Record] = (),
        names: Mapping[GpuUuid, str] | None = None,
    ) -> None:
        raise NotImplementedError

    def handle(self, event: Event, now: float) -> tuple[Action, ...]:
        """Apply the event and answer with what is to be done, in this order."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When a `Tick` is due, if nothing else happens before."""
        raise NotImplementedError

    def statuses(self) -> tuple[GrantStatus, ...]:
        """Every grant, by UID."""
        raise NotImplementedError
