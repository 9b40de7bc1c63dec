"""A node around the transition engine: API server, kubelet, containers, disk and a shell that may crash anywhere.

It keeps its own account of what every container was told and has confirmed, without the engine's functions, and
checks after every event that no byte is promised twice.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.transitions import (
    Acknowledged,
    Action,
    Ended,
    Engine,
    Event,
    Exited,
    Gated,
    GpusChanged,
    Grant,
    GrantStatus,
    Measure,
    Measured,
    PodObserved,
    PodsListed,
    PodVanished,
    Publish,
    Record,
    Refuse,
    Release,
    Save,
    StartRequested,
    Target,
    Tick,
    decode,
    encode,
)
from arbiter.transitions.actions import Forget
from arbiter.units import GIB, MIB
from arbiter.workload import Resize

GPUS = {GpuUuid("gpu-a"): 12 * GIB, GpuUuid("gpu-b"): 8 * GIB}
POLICY = Policy(start_window=20.0, restore_interval=10.0)
TOLERANCE = 64 * MIB
ROUNDING = 1e-6
"""Of times added up in floating point (s)."""


@dataclass
class Process:
    """A container that runs: what it was told, what it confirmed, and what it really holds (bytes per GPU)."""

    start: int
    told: list[Grant]
    read: Grant
    holds: int = 0
    acknowledged: int = 0
    acknowledged_at: float = 0.0
    confirmed: int = 0
    is_honest: bool = True
    outbox: list[Acknowledged] = field(default_factory=list)

    @property
    def may_hold(self) -> int:
        """By what it was told since what it last confirmed."""
        return max(grant.vram for grant in self.told if grant.revision >= self.confirmed)


@dataclass
class Pod:
    """A pod as the node knows it: the kubelet sees it at once, the agent when the log is delivered."""

    observed: PodObserved
    in_api: bool = True
    process: Process | None = None
    rpc: int | None = None
    given_up: int | None = None
    file: Grant | None = None
    exits: list[int] = field(default_factory=list)

    @property
    def may_start(self) -> bool:
        """Whether the kubelet would call PreStartContainer."""
        return self.in_api and not self.observed.terminating and self.process is None


class CrashError(Exception):
    """The shell is killed between two actions."""


class World:
    """State of everything outside the engine, and the engine itself."""

    def __init__(self, *, measures: bool) -> None:
        self.now = 1000.0
        self.measures = measures
        self.usable = dict(GPUS)
        self.pods: dict[PodUid, Pod] = {}
        self.log: list[tuple[PodUid, PodObserved | None]] = []
        self.cursor = 0
        self.seen: dict[PodUid, PodObserved] = {}
        self.disk: dict[PodUid, str] = {}
        self.ended: set[PodUid] = set()
        self.samples: list[Measured] = []
        self.asked: set[PodUid] = set()
        self.grows: dict[PodUid, list[float]] = defaultdict(list)
        self.crash_after: int | None = None
        self.stale_by = 0
        self.is_fair = False
        self.boot()

    # The API server and its watch

    def bind(self, demand: Demand, gpus: tuple[GpuUuid, ...]) -> PodUid:
        uid = PodUid(f"pod-{len(self.pods)}")
        pod = PodObserved(uid=uid, name=f"team/{uid}", demand=demand, gpus=gpus, bound_at=self.now)
        self.pods[uid] = Pod(pod)
        self.log.append((uid, pod))
        return uid

    def change(self, uid: PodUid, observed: PodObserved) -> None:
        self.pods[uid].observed = observed
        self.log.append((uid, observed))

    def remove(self, uid: PodUid) -> None:
        """From the API server alone: its processes may live on."""
        self.pods[uid].in_api = False
        self.log.append((uid, None))

    def deliver(self, count: int) -> None:
        for _ in range(count):
            if self.cursor == len(self.log):
                return
            uid, observed = self.log[self.cursor]
            self.cursor += 1
            self.show(uid, observed)

    def show(self, uid: PodUid, observed: PodObserved | None) -> None:
        if observed is None:
            self.seen.pop(uid, None)
            self.feed(PodVanished(uid))
        else:
            self.seen[uid] = observed
            self.feed(observed)

    # The shell

    def boot(self) -> None:
        """A new engine from the disk; open calls and samples on their way are lost, the list may be an old one."""
        for pod in self.pods.values():
            pod.rpc = None
        self.samples.clear()
        self.asked.clear()
        records = [decode(text) for text in self.disk.values()]
        self.engine = Engine(usable=dict(self.usable), policy=POLICY, now=self.now, records=records)
        self.is_listed = False
        self.cursor = max(0, len(self.log) - self.stale_by)
        self.seen = {}
        for uid, observed in self.log[: self.cursor]:
            self.seen.pop(uid, None)
            if observed is not None and uid not in self.ended:
                self.seen[uid] = observed

    def list_pods(self) -> None:
        """Observations and the list itself; a crash on the way starts from the beginning."""
        engine = self.engine
        for observed in list(self.seen.values()):
            self.feed(observed)
            if self.engine is not engine:
                return
        self.feed(PodsListed(frozenset(self.seen)))
        self.is_listed = self.engine is engine

    def feed(self, event: Event) -> None:
        before = {status.uid: status for status in self.engine.statuses()}
        actions = self.engine.handle(event, self.now)
        self.check_accounts(before)
        try:
            for action in actions:
                self.carry_out(action)
        except CrashError:
            self.crash_after = None
            self.boot()

    def carry_out(self, action: Action) -> None:
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                raise CrashError
        match action:
            case Save(record):
                self.save(record)
            case Forget(uid):
                assert self.pods[uid].process is None, "a record was dropped while its process lives"
                del self.disk[uid]
            case Publish(uid, grant):
                self.publish(uid, grant)
            case Release(uid, start):
                self.release(uid, start)
            case Gated(uid, start):
                self.pods[uid].rpc = start
            case Refuse(uid, start, sentence):
                assert sentence.startswith("start held: ")
                self.refuse(uid, start)
            case Measure(uid):
                self.asked.add(uid)
            case _:
                pass

    def save(self, record: Record) -> None:
        last = decode(self.disk[record.uid]) if record.uid in self.disk else Record(uid=record.uid)
        assert record.revision >= last.revision, "a revision was used again"
        if record.revision > last.revision and record.promises:
            newest, demand = record.promises[-1], self.seen[record.uid].demand
            assert demand.floor <= newest.vram <= demand.full
            assert demand.published(newest.quality) == newest.size
            runs_on = last.released_at is not None and record.start == last.start
            if runs_on and last.promises and newest.vram > last.promises[-1].vram:
                self.grows[record.uid].append(self.now)
        self.disk[record.uid] = encode(record)
        assert decode(self.disk[record.uid]) == record

    def publish(self, uid: PodUid, grant: Grant) -> None:
        pod = self.pods[uid]
        saved = decode(self.disk[uid]).promises[-1]
        assert (saved.revision, saved.quality, saved.vram) == (grant.revision, grant.quality, grant.vram)
        if pod.file is not None:
            assert grant.revision >= pod.file.revision
            same = (grant.quality, grant.vram) == (pod.file.quality, pod.file.vram)
            assert same or grant.revision > pod.file.revision
        pod.file = grant
        if pod.process is not None and grant.revision > pod.process.told[-1].revision:
            pod.process.told.append(grant)

    def release(self, uid: PodUid, start: int) -> None:
        pod, record = self.pods[uid], decode(self.disk[uid])
        assert (record.start, record.released_at) == (start, self.now)
        assert pod.file is not None
        assert pod.file.revision == record.revision
        assert pod.process is None
        if pod.rpc in (start, 0):
            pod.process = Process(start=start, told=[pod.file], read=pod.file)
        pod.rpc = None

    def refuse(self, uid: PodUid, start: int) -> None:
        pod = self.pods[uid]
        if start != pod.given_up:
            pod.rpc = None

    # The kubelet and the containers

    def prestart(self, uid: PodUid) -> None:
        pod = self.pods[uid]
        pod.given_up, pod.rpc = pod.rpc, 0  # the new call's number comes with its answer
        self.feed(StartRequested(uid))

    def die(self, uid: PodUid) -> None:
        pod = self.pods[uid]
        assert pod.process is not None
        pod.exits.append(pod.process.start)
        pod.process = None

    def read(self, uid: PodUid, *, gives_back: bool) -> None:
        """The engine reads its file: it grows into what it was told, and gives back when it pleases."""
        pod = self.pods[uid]
        assert pod.process is not None
        assert pod.file is not None
        process = pod.process
        process.read = pod.file
        if process.read.vram >= process.holds or gives_back:
            process.holds = process.read.vram
        if process.holds <= process.read.vram or not process.is_honest:
            ack = Acknowledged(uid=uid, revision=process.read.revision, vram=process.read.vram)
            process.outbox.append(ack)

    def acknowledge(self, ack: Acknowledged) -> None:
        """Our own account of it comes first: what was said is said, whether or not the shell survives hearing it."""
        process = self.pods[ack.uid].process
        told = process and next((grant for grant in process.told if grant.revision == ack.revision), None)
        if process and told and ack.vram <= told.vram and ack.revision > process.acknowledged:
            process.acknowledged, process.acknowledged_at = ack.revision, self.now
        self.feed(ack)

    def sample(self, uid: PodUid) -> None:
        process = self.pods[uid].process
        holds = process.holds if process else 0
        self.samples.append(Measured(uid=uid, vram=holds if self.measures else None, at=self.now))

    def report(self, sample: Measured) -> None:
        process = self.pods[sample.uid].process
        if process and process.acknowledged and sample.at >= process.acknowledged_at:
            since = max(grant.vram for grant in process.told if grant.revision >= process.acknowledged)
            if sample.vram is None or sample.vram <= since + TOLERANCE:
                process.confirmed = process.acknowledged
        self.feed(sample)

    def may_end(self, uid: PodUid) -> bool:
        pod = self.pods[uid]
        return not pod.in_api and pod.process is None and pod.rpc is None

    def end(self, uid: PodUid) -> None:
        self.ended.add(uid)
        self.feed(Ended(uid))

    # What must hold

    def check_accounts(self, before: dict[PodUid, GrantStatus]) -> None:
        after = {status.uid: status for status in self.engine.statuses()}
        for uid, pod in self.pods.items():
            if pod.process is not None:
                assert uid in after, f"{uid} runs and is unknown"
                assert after[uid].held >= pod.process.may_hold
                if pod.process.is_honest:
                    assert pod.process.holds <= pod.process.may_hold
        for gpu, usable in self.usable.items():
            was = sum(status.held for status in before.values() if gpu in status.gpus)
            held = sum(status.held for status in after.values() if gpu in status.gpus)
            assert held <= max(usable, was), f"{gpu} is promised twice"
            processes = [pod.process for pod in self.pods.values() if pod.process and gpu in pod.observed.gpus]
            assert sum(process.may_hold for process in processes) <= max(usable, was)

    def check_restores(self) -> None:
        for times in self.grows.values():
            for first, start in enumerate(times):
                for last, end in enumerate(times[first:], start=1):
                    tokens = 2 + (end - start + ROUNDING) / POLICY.restore_interval
                    assert last <= tokens, "restored too often"

    # A fair end: nothing fails any more, everybody gives back, targets are feasible

    def settle(self) -> None:
        """Everything that was on its way arrives; pods for which there is no room are evicted."""
        self.crash_after, self.stale_by, self.is_fair = None, 0, True
        self.usable = dict(GPUS)
        self.feed(GpusChanged(dict(self.usable)))
        self.deliver(len(self.log))
        if not self.is_listed:
            self.list_pods()
        for uid, pod in self.pods.items():
            for start in pod.exits:
                self.feed(Exited(uid, start))
            pod.exits.clear()
        for pod in list(self.live()):
            if pod.observed.terminating:
                self.remove(pod.observed.uid)
        self.clean_up()
        held = self.immovable()
        for pod in sorted(self.live(), key=lambda pod: (pod.observed.uid in held, -pod.observed.bound_at)):
            if any(self.floors(gpu, held) > self.usable[gpu] for gpu in pod.observed.gpus):
                self.remove(pod.observed.uid)
        self.clean_up()

    def clean_up(self) -> None:
        self.deliver(len(self.log))
        for uid, pod in self.pods.items():
            if pod.in_api:
                continue
            if pod.process:
                self.die(uid)
            pod.rpc = None
            if any(status.uid == uid for status in self.engine.statuses()):
                self.end(uid)

    def live(self) -> Iterable[Pod]:
        return (pod for pod in self.pods.values() if pod.in_api)

    def immovable(self) -> dict[PodUid, int]:
        """Bytes of the containers that keep the size of their start."""
        granted = {status.uid: status.held for status in self.engine.statuses() if status.held}
        demands = {pod.observed.uid: pod.observed.demand for pod in self.live()}
        return {
            uid: max(granted[uid], demand.floor)
            for uid, demand in demands.items()
            if uid in granted and (demand.resize is Resize.AT_START or demand.is_fixed)
        }

    def floors(self, gpu: GpuUuid, held: dict[PodUid, int]) -> int:
        return sum(
            held.get(pod.observed.uid, pod.observed.demand.floor) for pod in self.live() if gpu in pod.observed.gpus
        )

    def decide(self, *, share: int, deliver: int | None = None) -> None:
        """Feasible targets: floors for all, then thousandths `share` of what is left, one pod after another."""
        held = self.immovable()
        left = {gpu: usable - self.floors(gpu, held) for gpu, usable in self.usable.items()}
        for pod in list(self.live()):
            observed = pod.observed
            demand = observed.demand
            if observed.uid in held:
                continue
            more = max(0, min(left[gpu] for gpu in observed.gpus)) * share // 1000
            quality, vram = demand.fitting(demand.floor + more)
            for gpu in observed.gpus:
                left[gpu] -= vram - demand.floor
            self.change(observed.uid, replace(observed, target=Target(quality=quality, vram=vram)))
        self.deliver(len(self.log) if deliver is None else deliver)

    def live_fairly(self, seconds: float) -> bool:
        """Whether everybody runs at their target within that time."""
        end = self.now + seconds
        while self.now < end:
            self.proceed()
            if self.is_settled():
                return True
            deadline = self.engine.next_deadline()
            self.now = min(end, max(self.now + 0.5, min(deadline or end, self.now + 5)))
            self.feed(Tick())
        return False

    def proceed(self) -> None:
        """Everybody does the next thing that an honest one would do."""
        if not self.is_listed:
            self.list_pods()
        for uid, pod in self.pods.items():
            self.step(uid, pod)

    def step(self, uid: PodUid, pod: Pod) -> None:
        if pod.may_start and pod.rpc is None:
            self.prestart(uid)
        if pod.process:
            self.read(uid, gives_back=pod.process.is_honest or self.is_fair)
            if pod.process.outbox:
                self.acknowledge(pod.process.outbox[-1])
        if uid in self.asked:
            self.asked.remove(uid)
            self.sample(uid)
            self.report(self.samples.pop())

    def is_settled(self) -> bool:
        return all(self.is_at_target(pod) for pod in self.live())

    def is_at_target(self, pod: Pod) -> bool:
        target, demand = pod.observed.target, pod.observed.demand
        if pod.process is None or target is None:
            return pod.process is not None
        if demand.resize is Resize.AT_START or demand.is_fixed:
            return True
        promised = pod.process.told[-1]
        return (promised.quality, promised.vram, pod.process.may_hold) == (target.quality, target.vram, target.vram)
