"""The transition engine among crashes, stale and contradicting inputs, slow and lying containers."""

from dataclasses import replace
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from arbiter.demand import Demand, Level
from arbiter.ids import GpuUuid, PodUid
from arbiter.transitions import Acknowledged, Exited, GpusChanged, StartAbandoned, Target, Tick
from arbiter.units import MIB
from arbiter.workload import Priority, Resize, WorkloadType
from tests.property.transition_world import GPUS, Pod, World

MOST_PODS = 7
FAIR_TIME = 400.0

gpu_sets = st.sampled_from([(gpu,) for gpu in GPUS] + [tuple(GPUS)])
resizes = st.sampled_from([Resize.IN_PLACE, Resize.IN_PLACE, Resize.IN_PLACE, Resize.AT_START])


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    floor = draw(st.sampled_from([1024, 1843, 3000, 4096])) * MIB + draw(st.sampled_from([0, 0, 12345]))
    full = draw(st.sampled_from([1, 1.05, 1.5, 2.5, 4]))
    minimum = Fraction("0.4") if full > 1 else Fraction(1)
    demand = Demand(
        workload_type=WorkloadType.LLM_INFERENCE,
        priority=draw(st.sampled_from(Priority)),
        full=int(floor * full),
        floor=floor,
        maximum=Fraction(1),
        minimum=minimum,
        resize=draw(resizes),
        shrink_grace=draw(st.sampled_from([3.0, 15.0])),
    )
    if demand.is_fixed or draw(st.booleans()):
        return demand
    middle = Level(quality=Fraction("0.7"), vram=(demand.floor + demand.full) // 2)
    ends = Level(quality=minimum, vram=demand.floor), Level(quality=demand.maximum, vram=demand.full)
    return replace(demand, levels=(ends[0], middle, ends[1]))


class Transitions(RuleBasedStateMachine):
    """Rules pick among the pods by a number, so that failing histories shrink well."""

    @initialize(measures=st.booleans(), crowd=st.lists(st.tuples(demands(), gpu_sets), min_size=2, max_size=5))
    def build(self, *, measures: bool, crowd: list[tuple[Demand, tuple[GpuUuid, ...]]]) -> None:
        """A node on which life goes on already."""
        self.world = World(measures=measures)
        self.world.list_pods()
        for demand, gpus in crowd:
            self.world.bind(replace(demand, gpu_count=len(gpus)), gpus)
        self.world.decide(share=1000)
        self.world.proceed()

    def choose(self, number: int, among: list[Pod]) -> PodUid | None:
        return among[number % len(among)].observed.uid if among else None

    @property
    def known(self) -> list[Pod]:
        return list(self.world.pods.values())

    @property
    def running(self) -> list[Pod]:
        return [pod for pod in self.known if pod.process]

    @property
    def live(self) -> list[Pod]:
        return [pod for pod in self.known if pod.in_api]

    @precondition(lambda self: len(self.live) < MOST_PODS)
    @rule(demand=demands(), gpus=gpu_sets)
    def a_pod_is_bound(self, *, demand: Demand, gpus: tuple[GpuUuid, ...]) -> None:
        self.world.bind(replace(demand, gpu_count=len(gpus)), gpus)

    @precondition(lambda self: len(self.live) < MOST_PODS)
    @rule(demand=demands(), gpus=gpu_sets)
    def a_pod_arrives_that_wants_everything(self, *, demand: Demand, gpus: tuple[GpuUuid, ...]) -> None:
        uid = self.world.bind(replace(demand, gpu_count=len(gpus)), gpus)
        everything = Target(quality=demand.maximum, vram=demand.full)
        self.world.change(uid, replace(self.world.pods[uid].observed, target=everything))
        self.world.deliver(len(self.world.log))
        self.world.proceed()

    @precondition(lambda self: self.world.cursor < len(self.world.log))
    @rule(count=st.integers(1, 4))
    def the_watch_delivers(self, *, count: int) -> None:
        self.world.deliver(count)

    @rule(share=st.integers(0, 1000), count=st.integers(0, 9))
    def the_operator_decides(self, *, share: int, count: int) -> None:
        """Feasible targets, of which some are delivered at once."""
        self.world.decide(share=share, deliver=count)

    @rule(seconds=st.sampled_from([0.0, 1.0, 11.0]))
    def everybody_proceeds(self, *, seconds: float) -> None:
        self.world.now += seconds
        self.world.proceed()

    @precondition(lambda self: self.live)
    @rule(number=st.integers(0, 6), quality=st.integers(0, 1000), stray=st.sampled_from([0, 0, -4096, 3, 4096]))
    def somebody_decides_a_target(self, *, number: int, quality: int, stray: int) -> None:
        uid = self.choose(number, self.live)
        if uid is None:
            return
        observed = self.world.pods[uid].observed
        _, vram = observed.demand.published(max(observed.demand.minimum, Fraction(quality, 1000)))
        target = Target(quality=Fraction(quality, 1000), vram=max(0, vram + stray * MIB))
        self.world.change(uid, replace(observed, target=target))

    @precondition(lambda self: self.live)
    @rule(number=st.integers(0, 6), demand=demands())
    def a_demand_is_edited(self, *, number: int, demand: Demand) -> None:
        uid = self.choose(number, self.live)
        if uid is not None:
            observed = self.world.pods[uid].observed
            self.world.change(uid, replace(observed, demand=replace(demand, gpu_count=len(observed.gpus))))

    @precondition(lambda self: self.live)
    @rule(number=st.integers(0, 6))
    def a_pod_is_deleted(self, *, number: int) -> None:
        uid = self.choose(number, self.live)
        if uid is not None:
            self.world.change(uid, replace(self.world.pods[uid].observed, terminating=True))

    @precondition(lambda self: self.live)
    @rule(number=st.integers(0, 6))
    def a_pod_is_deleted_by_force(self, *, number: int) -> None:
        uid = self.choose(number, self.live)
        if uid is not None:
            self.world.remove(uid)

    @precondition(lambda self: any(pod.process for pod in self.live))
    @rule(number=st.integers(0, 6))
    def a_pod_is_ready(self, *, number: int) -> None:
        uid = self.choose(number, [pod for pod in self.live if pod.process])
        if uid is not None:
            self.world.change(uid, replace(self.world.pods[uid].observed, ready=True))

    @precondition(lambda self: any(pod.may_start for pod in self.known))
    @rule(number=st.integers(0, 6))
    def the_kubelet_asks_for_a_start(self, *, number: int) -> None:
        uid = self.choose(number, [pod for pod in self.known if pod.may_start])
        if uid is not None:
            self.world.prestart(uid)

    @precondition(lambda self: any(pod.rpc for pod in self.known))
    @rule(number=st.integers(0, 6))
    def the_kubelet_gives_up_a_start(self, *, number: int) -> None:
        uid = self.choose(number, [pod for pod in self.known if pod.rpc])
        if uid is not None:
            pod = self.world.pods[uid]
            start, pod.rpc = pod.rpc, None
            self.world.feed(StartAbandoned(uid, start or 0))

    @precondition(lambda self: self.running)
    @rule(number=st.integers(0, 6))
    def a_container_dies(self, *, number: int) -> None:
        uid = self.choose(number, self.running)
        if uid is not None:
            self.world.die(uid)

    @precondition(lambda self: any(pod.exits for pod in self.known))
    @rule(number=st.integers(0, 6), which=st.integers(0, 3), again=st.booleans())
    def an_exit_is_noticed(self, *, number: int, which: int, again: bool) -> None:
        uid = self.choose(number, [pod for pod in self.known if pod.exits])
        if uid is None:
            return
        exits = self.world.pods[uid].exits
        start = exits[which % len(exits)]
        if not again:
            exits.remove(start)
        self.world.feed(Exited(uid, start))

    @precondition(lambda self: any(self.world.may_end(pod.observed.uid) for pod in self.known))
    @rule(number=st.integers(0, 6))
    def a_gone_pod_has_ended(self, *, number: int) -> None:
        uid = self.choose(number, [pod for pod in self.known if self.world.may_end(pod.observed.uid)])
        if uid is not None:
            self.world.end(uid)

    @precondition(lambda self: self.running)
    @rule(number=st.integers(0, 6), gives_back=st.booleans(), hears=st.booleans())
    def a_container_reads_its_file(self, *, number: int, gives_back: bool, hears: bool) -> None:
        uid = self.choose(number, self.running)
        if uid is None:
            return
        self.world.read(uid, gives_back=gives_back)
        process = self.world.pods[uid].process
        if hears and process and process.outbox:
            self.world.acknowledge(process.outbox[-1])

    @precondition(lambda self: self.running)
    @rule(number=st.integers(0, 6))
    def a_container_lies(self, *, number: int) -> None:
        """It says that it runs at its size and gives nothing back."""
        uid = self.choose(number, self.running)
        if uid is not None and (process := self.world.pods[uid].process):
            process.is_honest = False
            self.world.read(uid, gives_back=False)
            self.world.acknowledge(process.outbox[-1])

    @precondition(lambda self: any(pod.process and pod.process.outbox for pod in self.known))
    @rule(number=st.integers(0, 6), which=st.integers(0, 9))
    def an_old_acknowledgement_arrives(self, *, number: int, which: int) -> None:
        uid = self.choose(number, [pod for pod in self.running if pod.process and pod.process.outbox])
        if uid is not None and (process := self.world.pods[uid].process):
            self.world.acknowledge(process.outbox[which % len(process.outbox)])

    @rule(number=st.integers(0, 6), revision=st.integers(0, 9), vram=st.integers(0, 9))
    def an_acknowledgement_from_nowhere_arrives(self, *, number: int, revision: int, vram: int) -> None:
        """Only a process that lies could send it; to one that is honest it would be a lie about it."""
        uid = self.choose(number, [pod for pod in self.known if not (pod.process and pod.process.is_honest)])
        if uid is not None:
            self.world.acknowledge(Acknowledged(uid=uid, revision=revision, vram=vram << 30))

    @precondition(lambda self: self.world.asked)
    @rule(number=st.integers(0, 6), at_once=st.booleans())
    def the_shell_measures(self, *, number: int, at_once: bool) -> None:
        uid = self.choose(number, [pod for pod in self.known if pod.observed.uid in self.world.asked])
        if uid is None:
            return
        self.world.asked.discard(uid)
        self.world.sample(uid)
        if at_once:
            self.world.report(self.world.samples.pop())

    @precondition(lambda self: self.world.samples)
    @rule(which=st.integers(0, 9))
    def a_measurement_arrives_later(self, *, which: int) -> None:
        samples = self.world.samples
        self.world.report(samples.pop(which % len(samples)))

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 25.0, 100.0]))
    def time_passes(self, *, seconds: float) -> None:
        self.world.now += seconds
        self.world.feed(Tick())

    @rule(tenths=st.integers(5, 10))
    def a_gpu_changes_its_size(self, *, tenths: int) -> None:
        self.world.usable = {gpu: size * tenths // 10 for gpu, size in GPUS.items()}
        self.world.feed(GpusChanged(dict(self.world.usable)))

    @rule(after=st.integers(0, 4), stale_by=st.sampled_from([0, 0, 1, 3, 10]))
    def the_shell_will_crash(self, *, after: int, stale_by: int) -> None:
        self.world.crash_after, self.world.stale_by = after, stale_by

    @precondition(lambda self: not self.world.is_listed)
    @rule()
    def the_shell_lists_the_pods(self) -> None:
        self.world.list_pods()

    @invariant()
    def nobody_is_restored_too_often(self) -> None:
        if hasattr(self, "world"):
            self.world.check_restores()

    def teardown(self) -> None:
        """Once nothing fails any more, every start is released and everybody reaches their target."""
        if not hasattr(self, "world"):
            return
        self.world.settle()
        self.world.decide(share=1000)
        assert self.world.live_fairly(FAIR_TIME)
        self.world.check_restores()


Transitions.TestCase.settings = settings(max_examples=80, stateful_step_count=50)
TestTransitions = Transitions.TestCase
