"""Who gets room, at which quality, and who has to give way: the state machine behind an Arbiter.

Claims in, notices out, the clock a parameter; no threads and no I/O. Targets are the equilibrium's, and the transition
engine carries them out: it alone says what a holder may use. Imports the core only.
"""

from itertools import count

from arbiter.curves import LOWEST_PRICE, quality_curve
from arbiter.demand import round_down
from arbiter.ids import PodUid
from arbiter.local.admission import Admission
from arbiter.local.book import Book
from arbiter.local.claim import GPU, Changed, Claim, Granted, Notice, Refused, Stage
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import (
    ArbiterError,
    InsufficientMemory,
    Preempted,
    ShuttingDown,
    Timeout,
)
from arbiter.local.request import AllocationRequest, demand_of, promised_quality
from arbiter.local.room import Room
from arbiter.local.statistics import ArbiterState, ArbiterStats, Meter
from arbiter.targets import solve_with_behind
from arbiter.transitions import (
    Acknowledged,
    Action,
    Ended,
    Engine,
    Event,
    GrantState,
    Measure,
    Measured,
    PodsListed,
    Publish,
    Refuse,
    Release,
    ShrinkOverdue,
    StartRequested,
    Tick,
)
from arbiter.workload import WorkloadType

_WITHOUT_ALLOCATION = (Stage.WAITING, Stage.GATED)
_BEHIND = (GrantState.OVERDUE, GrantState.LATE)


class Allocator:
    """One GPU's claims. Call `settle` after each change, and at `next_deadline`: it answers with what has come of it.

    Times are seconds on one clock that never steps back.
    """

    def __init__(self, config: ArbiterConfig, *, now: float) -> None:
        self._config = config
        self._policy = config.quality_policy
        self._capacities = {GPU: config.vram_budget}
        self._engine = Engine(usable=self._capacities, policy=self._policy, now=now)
        self._engine.handle(PodsListed(frozenset()), now)
        self._book = Book(config, policy=self._policy, engine=self._engine)
        self._admission = Admission(self._book, config=config, policy=self._policy)
        self._numbers = count(1)
        self._events: list[Event] = []
        self._notices: list[Notice] = []
        self._is_unsolved = False
        self._is_paused = False
        self._is_closed = False
        self._price = LOWEST_PRICE
        self._meter = Meter(at=now)

    # What happens

    def submit(self, request: AllocationRequest, now: float) -> PodUid:
        """Take in a request; its claim ends with `Granted` or `Refused`.

        Raises:
            ShuttingDown: it is closed.
            InvalidDemandError: the request contradicts itself.
        """
        if self._is_closed:
            raise ShuttingDown("this arbiter is closed and gives nothing out any more.")
        demand = demand_of(request, self._config)
        number = next(self._numbers)
        claim = Claim(
            uid=PodUid(f"{request.workload_type.defaults.short_name}-{number}"),
            number=number,
            demand=demand,
            promised=promised_quality(request, self._config),
            arrived_at=now,
            patience=request.effective_timeout(self._config),
        )
        self._book.claims[claim.uid] = claim
        self._meter.total += 1
        return claim.uid

    def release(self, uid: PodUid) -> bool:
        """End a claim wherever it stands; False where it has ended before."""
        claim = self._book.claims.get(uid)
        if claim is None:
            return False
        self._meter.failed += claim.stage in _WITHOUT_ALLOCATION
        self._end(claim)
        return True

    def acknowledge(self, uid: PodUid, *, revision: int, memory: int, now: float) -> bool:
        """A holder runs within `memory` bytes since it was told `revision`; False where its claim has ended."""
        if uid not in self._book.claims:
            return False
        # Nothing in a process can be measured from outside it, so what it says counts.
        self._events += [Acknowledged(uid=uid, revision=revision, vram=memory), Measured(uid=uid, vram=None, at=now)]
        return True

    def close(self) -> None:
        """Refuse whoever waits and whoever comes; holders keep what they have."""
        self._is_closed = True
        for claim in self._book.in_stage(*_WITHOUT_ALLOCATION):
            self._refuse(claim, ShuttingDown(f"this arbiter was closed while {claim.uid} waited."))

    def settle(self, now: float) -> tuple[Notice, ...]:
        """Let everything follow from what has happened and from the time."""
        self._meter.advance(now)
        self._events.append(Tick())
        while True:
            self._take_back_orders(now)
            self._note_overstayers(now)
            self._admit(now)
            if self._is_unsolved:
                self._solve(now)
            if not self._events and not self._expire(now):
                break
            self._advance(now)
        room = self._book.room(now)
        self._pause(room)
        self._measure(room)
        notices, self._notices = tuple(self._notices), []
        return notices

    # What follows

    def _admit(self, now: float) -> None:
        """Give room to those who wait, in order. Nobody overtakes who waits for memory: what is free is kept for it."""
        ahead = 0
        for claim in sorted(self._book.in_stage(Stage.WAITING), key=lambda claim: claim.order):
            if ahead and claim.waits:
                ahead += claim.demand.floor
                continue
            lack = self._admission.lack(claim, now, ahead=ahead)
            if lack is not None and claim.waits and self._make_room(claim, now):
                lack = None
            if lack is None:
                claim.stage, claim.admitted_at = Stage.GATED, now
                self._is_unsolved = True
            elif not claim.waits or claim.demand.floor > self._config.vram_budget:
                self._refuse(claim, lack)
            elif isinstance(lack, InsufficientMemory):
                ahead += claim.demand.floor

    def _make_room(self, claim: Claim, now: float) -> bool:
        """Tell those to leave who have to for this claim, if that is enough."""
        leavers = self._admission.leavers(claim, now)
        for uid in leavers:
            self._tell_to_leave(self._book.claims[uid], by=claim, now=now)
        return bool(leavers)

    def _tell_to_leave(self, victim: Claim, *, by: Claim, now: float) -> None:
        self._meter.preemptions += 1
        if victim.stage is Stage.GATED:
            self._refuse(victim, Preempted(victim=victim.uid, by=by.uid))
            return
        victim.stage, victim.leaving_since, victim.leaving_for = Stage.LEAVING, now, by.uid
        self._book.behind.pop(victim.uid, None)
        self._is_unsolved = True
        self._tell(victim)

    def _take_back_orders(self, now: float) -> None:
        """Who was told to leave stays once its room is needed no more; who was to leave last stays first."""
        for victim in sorted(self._book.in_stage(Stage.LEAVING), key=lambda claim: claim.order):
            victim.stage = Stage.HOLDING
            if self._admission.has_to_leave(victim, now):
                victim.stage = Stage.LEAVING
                continue
            victim.leaving_for = None
            self._is_unsolved = True
            self._tell(victim)

    def _note_overstayers(self, now: float) -> None:
        """Who was told to leave and has not is no longer expected to: its bytes count again."""
        for claim in self._book.in_stage(Stage.LEAVING):
            if claim.uid not in self._book.behind and now >= self._book.gone_by(claim):
                self._book.behind[claim.uid] = self._book.held(claim)
                self._is_unsolved = True

    def _solve(self, now: float) -> None:
        """New targets for everybody, and a start for those who just got room."""
        self._is_unsolved = False
        claims = list(self._book.with_room(now))
        behind = {claim.uid for claim in claims if claim.uid in self._book.behind and claim.stage is Stage.HOLDING}
        members = [self._book.member(claim) for claim in claims]
        solved = solve_with_behind(self._capacities, members, self._policy, behind=behind)
        self._price = solved.prices[GPU].price
        for claim in claims:
            target = solved.targets[claim.uid]
            if target.quality is None or target == claim.target:
                continue
            is_new, claim.target = claim.target is None, target
            self._events.append(claim.observed())
            if is_new:
                self._events.append(StartRequested(claim.uid, acknowledged=True))

    def _advance(self, now: float) -> None:
        """Hand the engine what has happened, as one change, and carry out what it asks for."""
        events, self._events = self._events, []
        for action in self._engine.handle_all(events, now):
            self._carry_out(action, now)
        self._follow_behind()

    def _follow_behind(self) -> None:
        """What those hold who are behind changes with what they give back; and at last they are trusted again."""
        for uid, before in list(self._book.behind.items()):
            status = self._engine.status(uid)
            if status is None:
                continue
            is_trusted = self._book.claims[uid].stage is Stage.HOLDING and status.state not in _BEHIND
            if is_trusted:
                del self._book.behind[uid]
            else:
                self._book.behind[uid] = status.held
            self._is_unsolved = self._is_unsolved or is_trusted or status.held != before

    def _carry_out(self, action: Action, now: float) -> None:
        match action:
            case Publish(uid, grant):
                claim = self._book.claims[uid]
                before, claim.grant = claim.grant, grant
                if claim.stage is not Stage.GATED:
                    self._meter.reductions += before is not None and grant.quality < before.quality
                    self._tell(claim)
            case Release(uid, _):
                claim = self._book.claims[uid]
                claim.stage = Stage.HOLDING
                self._meter.successful += 1
                if (target := claim.told(paused=self._is_paused)) is not None:
                    self._notices.append(Granted(uid, target))
            case Refuse(uid, _, _) if uid in self._book.claims:
                # The engine gives a start up after a while, as kubelets do; how long a claim waits is its own affair.
                self._events.append(StartRequested(uid, acknowledged=True))
            case ShrinkOverdue(uid, _) if self._book.claims[uid].stage is Stage.HOLDING:
                self._book.behind[uid] = 0  # what it holds is looked up when the engine is done
            case Measure(uid):
                self._events.append(Measured(uid=uid, vram=None, at=now))
            case _:
                pass

    def _expire(self, now: float) -> bool:
        """Refuse those who have waited for as long as they may; whether there were any."""
        late = [claim for claim in self._book.in_stage(*_WITHOUT_ALLOCATION) if now >= claim.deadline]
        for claim in late:
            self._refuse(claim, Timeout(duration=claim.patience or 0.0, reason=self._why_late(claim, now)))
        return bool(late)

    def _why_late(self, claim: Claim, now: float) -> str:
        if claim.stage is Stage.WAITING:
            return str(self._admission.lack(claim, now) or "it was not its turn.")
        owing = [other.uid for other in self._book.in_stage(Stage.HOLDING, Stage.LEAVING) if self._book.owes(other)]
        return f"{', '.join(owing) or 'others'} {'has' if len(owing) == 1 else 'have'} not given its memory back."

    def _pause(self, room: Room) -> None:
        """Tell the holders of priority Background when they should pause, and when they may go on."""
        if room.pauses_background != self._is_paused:
            self._is_paused = room.pauses_background
            for claim in self._book.in_stage(Stage.HOLDING, Stage.LEAVING):
                if claim.is_background:
                    self._tell(claim)

    # What is known

    def next_deadline(self) -> float | None:
        """When to settle, if nothing happens before."""
        waiting = [claim.deadline for claim in self._book.in_stage(*_WITHOUT_ALLOCATION)]
        leaving = [
            self._book.gone_by(claim)
            for claim in self._book.in_stage(Stage.LEAVING)
            if claim.uid not in self._book.behind
        ]
        engine = self._engine.next_deadline()
        return min([*waiting, *leaving, *([] if engine is None else [engine])], default=None)

    def quality_for(self, workload_type: WorkloadType) -> float:
        """The quality of one more allocation of this type, priority Normal and rigid bytes that change nothing."""
        demand = demand_of(AllocationRequest(workload_type=workload_type, memory_required=1), self._config)
        return float(round_down(quality_curve(demand, self._policy)(self._price)))

    @property
    def state(self) -> ArbiterState:
        """The moment of the last `settle`."""
        room = self._book.room(self._meter.at)
        llm, diffusion = self._book.qualities(is_llm=True), self._book.qualities(is_llm=False)
        return ArbiterState(
            active_llm=len(llm),
            active_diffusion=len(diffusion),
            waiting=len(list(self._book.in_stage(*_WITHOUT_ALLOCATION))),
            llm_quality=min(llm, default=1.0),
            diffusion_quality=min(diffusion, default=1.0),
            pressure=room.utilisation,
            pressure_level=room.pressure,
            price=float(self._price),
            vram_used=sum(self._book.held(claim) for claim in self._book.claims.values()),
            vram_available=0 if room.pressure.blocks_new_work else max(0, room.capacity - room.promised),
        )

    @property
    def behind(self) -> frozenset[PodUid]:
        """Who has not given back in time, and is taken to keep what it holds."""
        return frozenset(self._book.behind)

    @property
    def stats(self) -> ArbiterStats:
        """Counts and averages up to the last `settle`."""
        return self._meter.stats

    # Parts of it

    def _measure(self, room: Room) -> None:
        self._meter.pressure.value = room.utilisation
        self._meter.llm.value = _mean(self._book.qualities(is_llm=True))
        self._meter.diffusion.value = _mean(self._book.qualities(is_llm=False))

    def _tell(self, claim: Claim) -> None:
        target = claim.told(paused=self._is_paused)
        if target is not None:
            self._notices.append(Changed(claim.uid, target))

    def _refuse(self, claim: Claim, error: ArbiterError) -> None:
        self._meter.failed += 1
        self._notices.append(Refused(claim.uid, error))
        self._end(claim)

    def _end(self, claim: Claim) -> None:
        del self._book.claims[claim.uid]
        self._book.behind.pop(claim.uid, None)
        if claim.stage is not Stage.WAITING:
            self._events.append(Ended(claim.uid))
            self._is_unsolved = True


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
