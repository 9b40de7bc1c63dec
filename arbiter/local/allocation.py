"""What a holder has in hand: memory, a quality target that follows the others' comings and goings, a way to give back.

Imports the core only.
"""

from collections.abc import AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from arbiter.arguments import function, instance, seconds
from arbiter.local.claim import QualityTarget
from arbiter.local.errors import ShuttingDown
from arbiter.local.holding import Callback, Holding
from arbiter.local.request import AllocationRequest
from arbiter.workload import Priority, WorkloadType

if TYPE_CHECKING:
    from arbiter.local.arbiter import Arbiter


class Allocation:
    """GPU memory that an `Arbiter` gave out, until `release` or the end of a `with` or `async with` block.

    One that is dropped instead stays counted: somebody may still use the memory.

    `created_at` is in seconds since the epoch. Whoever follows its target reads it in one of these ways: `target` (or
    `quality_target` and `memory`), `wait_for_change`, `changes` or `on_change`; each counts as having seen it. `paused`
    and `preempted` do not: who asks only for them has still to hear of a change of its bytes.
    """

    def __init__(
        self, arbiter: "Arbiter", *, name: str, request: AllocationRequest, holding: Holding, created_at: float
    ) -> None:
        """Made by an `Arbiter`."""
        self._arbiter = arbiter
        self._holding = holding
        self.id = name
        self.request = request
        self.created_at = created_at

    def __repr__(self) -> str:
        target = self._holding.target
        return f"<Allocation {self.id} {self.priority.value} quality={target.quality:.3f} memory={target.memory}>"

    @property
    def workload_type(self) -> WorkloadType:
        """As requested."""
        return self.request.workload_type

    @property
    def priority(self) -> Priority:
        """As requested."""
        return self.request.priority

    @property
    def target(self) -> QualityTarget:
        """What may be used now: quality, memory and why, of one moment."""
        return self._holding.look()

    @property
    def quality_target(self) -> float:
        """The quality to run at now, 0..1."""
        return self.target.quality

    @property
    def memory(self) -> int:
        """Bytes that may be used now."""
        return self.target.memory

    @property
    def paused(self) -> bool:
        """Whether work of priority Background should pause: memory is tight, and others are there."""
        return self._holding.target.paused

    @property
    def preempted(self) -> bool:
        """Whether it should be released: something more important waits for its room."""
        return self._holding.target.preempted_by is not None

    @property
    def released(self) -> bool:
        """Whether it was released."""
        return self._arbiter.is_released(self)

    def acknowledge(self, target: QualityTarget | None = None) -> bool:
        """Say that from now on no more than `target.memory` is in use; False where the allocation was released before.

        What a smaller target gives back is lent to nobody before. Without a `target` the last one that was seen is
        meant: name it where several threads look at one allocation. Saying it twice, late, or of an older target
        does no harm.

        Raises:
            TypeError: that is no target.
            ValueError: it is another allocation's.
        """
        if target is None:
            target = self._holding.seen
        instance(QualityTarget, target, what="target", example="allocation.target")
        if target.allocation != self.id:
            raise ValueError(
                f"the target is one of {target.allocation}; acknowledge {self.id} with a target of its own."
            )
        return self._arbiter.acknowledge(self, target)

    def release(self) -> bool:
        """Give the memory back; False where that has been done before."""
        return self._arbiter.release_allocation(self)

    def on_change(self, callback: Callback) -> Callable[[], None]:
        """Call `callback(target)` after each change, until the function that is returned is called.

        All callbacks of an arbiter run on one thread of their own, one after another and never under its lock, so
        they may call it. A slow one delays the other callbacks, and nothing else. A callback that is still busy gets
        the newest target next; what came and went meanwhile is passed over. What a callback raises is logged and stops
        nobody.

        Raises:
            TypeError: `callback` cannot be called.
            Internal: there is no thread to call it from.
        """
        function(callback, what="callback")
        listener = partial(callback)  # an object of its own, so that the same callback may be there twice
        self._arbiter.listen(self._holding, listener)
        return lambda: self._holding.unsubscribe(listener)

    def wait_for_change(self, timeout: float | None = None) -> QualityTarget | None:
        """The newest target as soon as it is another than the one seen last; None where none comes in `timeout` (s).

        Raises:
            Preempted: it should be released, something more important waits for its room.
            ShuttingDown: it was released, or the arbiter was closed.
            ValueError: `timeout` is no time.
        """
        return self._holding.wait(None if timeout is None else seconds(timeout, what="timeout"))

    async def changes(self) -> AsyncIterator[QualityTarget]:
        """Each target that differs from the one seen last, until the allocation is released or the arbiter is closed.

        Targets that came and went while nobody waited are passed over.

        Raises:
            Preempted: it should be released, something more important waits for its room.
        """
        last = self._holding.seen
        while True:
            try:
                last = await self._holding.follow(last)
            except ShuttingDown:
                return
            yield last

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
