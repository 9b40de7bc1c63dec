"""One shared GPU among holders that are slow, silent, repetitive or stubborn, with an account of its own."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from arbiter.equilibrium import Member, Target, solve
from arbiter.ids import PodUid
from arbiter.local.allocator import Allocator
from arbiter.local.claim import GPU, Changed, Granted, Notice, QualityTarget, Refused
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import Preempted, Timeout
from arbiter.local.request import AllocationRequest, demand_of
from arbiter.units import GIB, MIB
from arbiter.workload import PolicyMode, Priority, WorkloadType

CAPACITY = 12 * GIB
ROUNDING = 1e-6
LONG = 1000.0
"""More than any request waits, any holder may take to give back, and any bucket of grows takes to fill."""


@dataclass
class Holder:
    """What it was told, each in turn, and which revision it confirmed last."""

    request: AllocationRequest
    told: list[QualityTarget]
    confirmed: int
    grows: list[float] = field(default_factory=list)

    @property
    def may_hold(self) -> int:
        return max(target.memory for target in self.told if target.revision >= self.confirmed)


@st.composite
def requests(draw: st.DrawFn) -> AllocationRequest:
    size = draw(st.sampled_from([1, 2, 4, 8, 11])) * GIB + draw(st.sampled_from([0, 0, 12345]))
    shape = draw(st.sampled_from(["rigid", "elastic", "elastic", "levels"]))
    return AllocationRequest(
        workload_type=draw(st.sampled_from(WorkloadType)),
        priority=draw(st.sampled_from(Priority)),
        memory_required=size,
        minimum_memory=size // draw(st.sampled_from([2, 3])) if shape == "elastic" else None,
        minimum_quality=draw(st.sampled_from([None, None, 0.7])) if shape == "rigid" else None,
        levels=((0.5, size // 2), (0.8, size * 4 // 5)) if shape == "levels" else (),
        timeout=draw(st.sampled_from([None, 0.0, 5.0])),
        no_wait=draw(st.sampled_from([False, False, True])),
    )


class Sharing(RuleBasedStateMachine):
    """Rules pick among the holders by a number, so that failing histories shrink well."""

    @initialize(policy=st.sampled_from(PolicyMode), threshold=st.sampled_from([0.0, 0.85, 0.85, 1.0]))
    def build(self, *, policy: PolicyMode, threshold: float) -> None:
        self.config = ArbiterConfig(
            vram_budget=CAPACITY, policy=policy, pressure_threshold=threshold, shrink_grace=20.0, restore_interval=10.0
        )
        self.now = 0.0
        self.allocator = Allocator(self.config, now=0.0)
        self.requests: dict[PodUid, tuple[AllocationRequest, float]] = {}
        self.holders: dict[PodUid, Holder] = {}
        self.released: set[PodUid] = set()
        self.priorities: dict[PodUid, Priority] = {}
        self.shrunk = False

    # The shell

    def settle(self) -> None:
        # Who stays after all, since nobody needs its room any more, has it back from those who had it meanwhile.
        has_cause, self.shrunk = bool(self.requests or self.allocator.behind or self.leaving), False
        for notice in self.allocator.settle(self.now):
            self.take(notice)
        # Whoever comes in has waited, if only for this one call; who is behind counts with what it holds, more or less.
        assert not self.shrunk or has_cause or self.allocator.behind, "somebody has to give way for nobody"

    @property
    def leaving(self) -> list[PodUid]:
        """Who was told to."""
        return [uid for uid, holder in self.holders.items() if holder.told[-1].preempted_by is not None]

    def take(self, notice: Notice) -> None:
        match notice:
            case Granted(uid, target):
                request, _ = self.requests.pop(uid)
                self.holders[uid] = Holder(request=request, told=[target], confirmed=target.revision)
            case Changed(uid, target):
                self.tell(self.holders[uid], target)
            case Refused(uid, error):
                request, since = self.requests.pop(uid)
                if isinstance(error, Timeout):
                    assert self.now >= since + error.duration
                assert not isinstance(error, Preempted) or request.priority.level < Priority.HIGH.level

    def tell(self, holder: Holder, target: QualityTarget) -> None:
        last = holder.told[-1]
        assert target.revision >= last.revision
        self.shrunk |= target.quality < last.quality or target.memory < last.memory
        if target.memory > last.memory:
            holder.grows.append(self.now)
        if target.preempted_by is not None and last.preempted_by is None:
            winner = self.priorities[PodUid(target.preempted_by)]
            assert winner.may_preempt(holder.request.priority)
        assert not target.paused or holder.request.priority is Priority.BACKGROUND
        holder.told.append(target)

    def choose(self, number: int) -> PodUid:
        return list(self.holders)[number % len(self.holders)]

    # What may happen

    @precondition(lambda self: len(self.holders) + len(self.requests) < 8)
    @rule(request=requests())
    def somebody_asks(self, *, request: AllocationRequest) -> None:
        uid = self.allocator.submit(request, self.now)
        self.requests[uid], self.priorities[uid] = (request, self.now), request.priority
        self.settle()
        assert uid not in self.requests or not request.no_wait, "who does not wait is answered at once"

    @precondition(lambda self: self.holders)
    @rule(number=st.integers(0, 7))
    def somebody_releases(self, *, number: int) -> None:
        self.give_back(self.choose(number))
        self.settle()

    def give_back(self, uid: PodUid) -> None:
        del self.holders[uid]
        self.released.add(uid)
        assert self.allocator.release(uid)
        assert not self.allocator.release(uid)

    @precondition(lambda self: self.requests)
    @rule(number=st.integers(0, 7))
    def somebody_gives_up(self, *, number: int) -> None:
        uid = list(self.requests)[number % len(self.requests)]
        del self.requests[uid]
        assert self.allocator.release(uid)
        self.settle()

    @precondition(lambda self: self.holders)
    @rule(number=st.integers(0, 7), which=st.integers(0, 9), times=st.integers(1, 2))
    def somebody_acknowledges(self, *, number: int, which: int, times: int) -> None:
        """The newest or an older target, once or twice."""
        uid = self.choose(number)
        told = self.holders[uid].told
        for _ in range(times):
            self.acknowledge(uid, told[max(0, len(told) - 1 - which // 3)])

    @precondition(lambda self: self.holders)
    @rule()
    def everybody_acknowledges(self) -> None:
        for uid in list(self.holders):
            self.acknowledge(uid, self.holders[uid].told[-1])

    def acknowledge(self, uid: PodUid, target: QualityTarget) -> None:
        holder = self.holders[uid]
        holder.confirmed = max(holder.confirmed, target.revision)
        assert self.allocator.acknowledge(uid, revision=target.revision, memory=target.memory, now=self.now)
        self.settle()

    @precondition(lambda self: self.released)
    @rule(revision=st.integers(0, 9))
    def somebody_who_left_acknowledges(self, *, revision: int) -> None:
        uid = min(self.released)
        assert not self.allocator.acknowledge(uid, revision=revision, memory=MIB, now=self.now)

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 12.0, 50.0]))
    def time_passes(self, *, seconds: float) -> None:
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.allocator.next_deadline()) is not None and deadline <= end:
            assert deadline > self.now, "it asks for a moment that has passed"
            self.now = deadline
            self.settle()
        self.now = end
        self.settle()

    # What must hold

    @invariant()
    def no_byte_is_promised_twice(self) -> None:
        if hasattr(self, "holders"):
            may_hold = sum(holder.may_hold for holder in self.holders.values())
            assert may_hold <= self.allocator.state.vram_used <= CAPACITY

    @invariant()
    def everybody_has_between_the_least_and_all(self) -> None:
        for holder in getattr(self, "holders", {}).values():
            demand = demand_of(holder.request, self.config)
            target = holder.told[-1]
            assert demand.floor <= target.memory <= demand.full
            assert demand.minimum <= round(target.quality * 1000) / 1000 + ROUNDING

    @invariant()
    def nobody_has_to_leave_for_nobody(self) -> None:
        if hasattr(self, "holders"):
            assert not self.leaving or self.requests or self.allocator.behind

    @invariant()
    def nobody_is_restored_too_often(self) -> None:
        for holder in getattr(self, "holders", {}).values():
            for first, start in enumerate(holder.grows):
                for count, end in enumerate(holder.grows[first:], start=1):
                    assert count <= 2 + (end - start + ROUNDING) / self.config.restore_interval

    def teardown(self) -> None:
        """Once nothing happens any more nobody waits, and who gives back in time has what the equilibrium says."""
        if not hasattr(self, "holders"):
            return
        is_spotless = not self.allocator.behind
        for _ in range(60):
            for uid in list(self.holders):
                self.acknowledge(uid, self.holders[uid].told[-1])
                if uid in self.leaving:
                    self.give_back(uid)
                    self.settle()
            self.wait(LONG / 60)
        assert not self.requests
        assert self.allocator.next_deadline() is None, "it does not come to rest"
        for uid, holder in self.holders.items():
            last = holder.told[-1]
            assert holder.may_hold == last.memory
            if uid in self.allocator.behind:
                # The others are solved with what it holds, so they may have what it would get if it were trusted.
                assert last.quality <= last.target
            else:
                assert last.quality == last.target
        if is_spotless and not self.config.quality_policy.sizes_once:
            assert {uid: (h.told[-1].quality, h.told[-1].memory) for uid, h in self.holders.items()} == self.expected()

    def expected(self) -> dict[PodUid, tuple[float, int]]:
        """What those who are left should have, whatever came before."""
        members = [
            Member(uid=uid, demand=demand_of(holder.request, self.config), gpus=(GPU,), name=uid)
            for uid, holder in self.holders.items()
        ]
        targets = solve({GPU: CAPACITY}, members, self.config.quality_policy).targets
        return {uid: _told(target) for uid, target in targets.items()}


def _told(target: Target) -> tuple[float, int]:
    assert target.quality is not None
    return float(target.quality), target.vram


Sharing.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestSharing = Sharing.TestCase
