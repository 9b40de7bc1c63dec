"""The library's front door: one GPU, shared by the threads and tasks of one process. Imports the core only."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from arbiter.arguments import instance, one_of
from arbiter.ids import PodUid
from arbiter.local.allocation import Allocation
from arbiter.local.allocator import Allocator
from arbiter.local.claim import Changed, Granted, Notice, QualityTarget, Refused
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import ArbiterError, Internal, ShuttingDown
from arbiter.local.holding import Callback, Holding
from arbiter.local.pulse import Pulse
from arbiter.local.request import AllocationRequest, AllocationResult
from arbiter.local.statistics import ArbiterState, ArbiterStats
from arbiter.local.worker import Alarm, Caller
from arbiter.workload import Priority, WorkloadType

_log = logging.getLogger(__name__)

_LAST_CALLBACK = 1.0


@dataclass(slots=True)
class _Ticket:
    """Somebody who asked; `deadline` is when it should look again at the latest."""

    uid: PodUid
    request: AllocationRequest
    pulse: Pulse
    deadline: float
    answer: Allocation | ArbiterError | None = None


@dataclass(frozen=True, slots=True)
class _Holder:
    """An allocation that was given out, and what its holder was told."""

    allocation: Allocation
    holding: Holding


class Arbiter:
    """Shares one GPU's memory between workloads that can run at reduced quality.

    Every method may be called from any thread and any event loop, but not from signal handlers nor `__del__`: these
    come in the midst of another call. `clock` gives seconds and never steps back.
    """

    def __init__(self, config: ArbiterConfig | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        if config is None:
            config = ArbiterConfig()
        self.config = instance(ArbiterConfig, config, what="config", example="ArbiterConfig.for_vram_gb(12)")
        self._clock = clock
        self._started_at = clock()
        self._lock = threading.Lock()
        self._allocator = Allocator(self.config, now=self._started_at)
        self._tickets: dict[PodUid, _Ticket] = {}
        self._holders: dict[PodUid, _Holder] = {}
        self._failure: Internal | None = None
        self._alarm = Alarm(self._lock, clock=clock, tick=self._follow)
        self._caller = Caller(self._lock)

    # Asking for memory

    def request_allocation(
        self,
        workload_type: WorkloadType | str,
        priority: Priority | str,
        memory_required: int | None = None,
        *,
        minimum_memory: int | None = None,
        minimum_quality: float | None = None,
        levels: Iterable[tuple[float, int]] = (),
        timeout: float | None = None,
        no_wait: bool = False,
    ) -> Allocation:
        """Memory for a workload as soon as there is room; blocks until then.

        Args:
            workload_type: sets the least quality, and for how long to wait.
            priority: who gives way first, who waits first, and for how long.
            memory_required: bytes at full quality; default: what is typical of the type (8, 6 or 12 GiB).
            minimum_memory: bytes that it can shrink to when its target says so; default: its bytes are rigid.
            minimum_quality: the least quality (0..1) to run at, default the type's. With rigid bytes, who would be
                admitted below it is not.
            levels: (quality, bytes) of each step of an engine that cannot run in between.
            timeout: seconds to wait; default 30, 60 or 120 by type, times 0.5 to 2 by priority.
            no_wait: answer at once.

        Raises:
            InsufficientMemory: it could never fit; or does not now, and is not to wait.
            InsufficientQuality: there is room but not for `minimum_quality`, and it is not to wait.
            Timeout: it has waited for as long as it may.
            Preempted: it was about to get its room, and something more important came.
            ShuttingDown: the arbiter is closed.
            ValueError: no such type or priority; or the arguments contradict each other (InvalidDemandError, which says
                what to write instead).
        """
        request = AllocationRequest(
            workload_type,
            priority,
            memory_required,
            minimum_memory=minimum_memory,
            minimum_quality=minimum_quality,
            levels=levels,
            timeout=timeout,
            no_wait=no_wait,
        )
        return self.allocate(request).unwrap()

    async def arequest_allocation(
        self,
        workload_type: WorkloadType | str,
        priority: Priority | str,
        memory_required: int | None = None,
        *,
        minimum_memory: int | None = None,
        minimum_quality: float | None = None,
        levels: Iterable[tuple[float, int]] = (),
        timeout: float | None = None,  # noqa: ASYNC109 - part of the request: the arbiter refuses it with the reason
        no_wait: bool = False,
    ) -> Allocation:
        """`request_allocation` that awaits: the event loop goes on meanwhile. Cancelling it gives everything back."""
        request = AllocationRequest(
            workload_type,
            priority,
            memory_required,
            minimum_memory=minimum_memory,
            minimum_quality=minimum_quality,
            levels=levels,
            timeout=timeout,
            no_wait=no_wait,
        )
        return (await self.aallocate(request)).unwrap()

    def allocate(self, request: AllocationRequest) -> AllocationResult:
        """The same with a request and a result as values.

        Raises:
            ShuttingDown: the arbiter is closed.
            InvalidDemandError: the request contradicts itself.
        """
        with self._lock:
            ticket = self._submit(request)
            try:
                while ticket.answer is None:
                    ticket.pulse.wait(self._left(ticket))
                    self._settle()
            except BaseException:  # a KeyboardInterrupt, say: nobody is there to take the memory
                self._withdraw(ticket)
                raise
        return _result(ticket.answer)

    async def aallocate(self, request: AllocationRequest) -> AllocationResult:
        """`allocate` that awaits. Cancelling it gives everything back."""
        with self._lock:
            ticket = self._submit(request)
        try:
            while ticket.answer is None:
                await ticket.pulse.wait_in_loop(self._left(ticket), unless=lambda: ticket.answer is not None)
                with self._lock:
                    self._settle()
        except BaseException:
            with self._lock:
                self._withdraw(ticket)
            raise
        return _result(ticket.answer)

    # Holding memory; an Allocation's own methods end here

    def release_allocation(self, allocation: Allocation) -> bool:
        """Give an allocation's memory back; False where that has been done before, or it is another arbiter's.

        Raises:
            TypeError: it is no allocation.
        """
        instance(Allocation, allocation, what="allocation", example="what request_allocation returns")
        with self._lock:
            holder = self._holder(allocation)
            if holder is None:
                return False
            self._end(holder)
            self._follow()
        return True

    def acknowledge(self, allocation: Allocation, target: QualityTarget) -> bool:
        """Note that an allocation uses no more than `target.memory`; False where it has been released."""
        with self._lock:
            if self._holder(allocation) is None:
                return False
            self._allocator.acknowledge(
                PodUid(allocation.id), revision=target.revision, memory=target.memory, now=self._clock()
            )
            self._settle()
        return True

    def listen(self, holding: Holding, callback: Callback) -> None:
        """Have a holder's callback called with each change, beginning with the one that nobody has seen yet.

        Raises:
            Internal: there is no thread to call it from.
        """
        with self._lock:
            self._caller.start()
            if holding.subscribe(callback):
                self._caller.post(holding.deliver)

    def is_released(self, allocation: Allocation) -> bool:
        """Whether an allocation has been released."""
        return self._holder(allocation) is None

    # Looking at it

    def recommended_quality(self, workload_type: WorkloadType | str) -> float:
        """The quality (0..1) that one more small allocation of this type, at priority Normal, would run at now."""
        with self._lock:
            return self._allocator.quality_for(one_of(WorkloadType, workload_type))

    def state(self) -> ArbiterState:
        """This moment."""
        with self._lock:
            self._settle()
            return self._allocator.state

    def stats(self) -> ArbiterStats:
        """Counts and averages since the start."""
        with self._lock:
            self._settle()
            return self._allocator.stats

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started_at

    # Ending it

    def close(self) -> None:
        """Give nothing out any more: who waits is told `ShuttingDown`, holders keep what they have and may release it.

        Closing twice is harmless. A callback that is still running is waited for, but no longer than a second: it may
        itself be waiting for the thread, or for the event loop, that closes.
        """
        with self._lock:
            self._allocator.close()
            self._follow()
            for holder in self._holders.values():
                holder.holding.finish(ShuttingDown("the arbiter was closed."))
            threads = self._stop()
        for thread in threads:
            thread.join(_LAST_CALLBACK)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # With the lock held

    def _submit(self, request: AllocationRequest) -> _Ticket:
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # as each raise would add to it for ever
        instance(AllocationRequest, request, what="request", example='AllocationRequest("LlmInference")')
        now = self._clock()
        uid = self._allocator.submit(request, now)
        patience = request.effective_timeout(self.config)
        ticket = _Ticket(uid, request, Pulse(self._lock), now + (patience or 0.0))
        self._tickets[uid] = ticket
        self._settle()
        return ticket

    def _left(self, ticket: _Ticket) -> float:
        return max(0.0, ticket.deadline - self._clock())

    def _withdraw(self, ticket: _Ticket) -> None:
        self._tickets.pop(ticket.uid, None)
        holder = self._holders.get(ticket.uid)
        if holder is not None:
            self._end(holder)
        else:
            self._allocator.release(ticket.uid)
        self._follow()

    def _end(self, holder: _Holder) -> None:
        uid = PodUid(holder.allocation.id)
        self._allocator.release(uid)
        holder.holding.finish(ShuttingDown(f"{uid} was released."))
        del self._holders[uid]  # last, so that who is interrupted may do it again

    def _holder(self, allocation: Allocation) -> _Holder | None:
        holder = self._holders.get(PodUid(allocation.id))
        return holder if holder is not None and holder.allocation is allocation else None

    def _follow(self) -> None:
        """Settle, for one who has nothing to do with a failure: it is told to those who wait, and who come."""
        with suppress(Internal):
            self._settle()

    def _settle(self) -> None:
        """Let everything follow, or fail as a whole: half of it would leave somebody waiting for ever."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # as each raise would add to it for ever
        try:
            for notice in self._allocator.settle(self._clock()):
                self._pass_on(notice)
            self._alarm.wake_at(self._allocator.next_deadline())
        except Exception as error:
            raise self._fail(error) from error
        except BaseException as error:  # a KeyboardInterrupt in the midst of it
            self._fail(error)
            raise

    def _pass_on(self, notice: Notice) -> None:
        match notice:
            case Granted(uid, target):
                self._answer(uid, self._give_out(self._tickets[uid], target))
            case Refused(uid, error):
                self._answer(uid, error)
            case Changed(uid, target):
                holding = self._holders[uid].holding
                if holding.update(target):
                    self._caller.post(holding.deliver)

    def _answer(self, uid: PodUid, answer: Allocation | ArbiterError) -> None:
        ticket = self._tickets[uid]
        ticket.answer = answer
        ticket.pulse.fire()
        del self._tickets[uid]  # last, so that whatever comes between is told to it

    def _give_out(self, ticket: _Ticket, target: QualityTarget) -> Allocation:
        holding = Holding(self._lock, target, name=ticket.uid)
        allocation = Allocation(self, name=ticket.uid, request=ticket.request, holding=holding, created_at=time.time())
        self._holders[ticket.uid] = _Holder(allocation, holding)
        return allocation

    def _fail(self, error: BaseException) -> Internal:
        """Nothing is known for sure any more: tell everybody."""
        _log.exception("the arbiter has failed")
        self._failure = Internal(f"the arbiter has failed and gives nothing out any more: {error!r}.")
        for uid in list(self._tickets):
            self._answer(uid, self._failure)
        for holder in self._holders.values():
            holder.holding.finish(self._failure)
        self._stop()
        return self._failure

    def _stop(self) -> list[threading.Thread]:
        """The threads that end now."""
        return [thread for thread in (self._alarm.stop(), self._caller.stop()) if thread is not None]


def _result(answer: Allocation | ArbiterError) -> AllocationResult:
    if isinstance(answer, ShuttingDown | Internal):
        raise answer
    return AllocationResult(answer)
