"""A scene around one engine: containers by name, sizes in GiB, a clock that is turned; acts as an honest shell."""

from dataclasses import replace
from fractions import Fraction

from arbiter.demand import Demand
from arbiter.ids import GpuUuid, PodUid
from arbiter.policy import Policy
from arbiter.transitions import (
    Acknowledged,
    Action,
    Engine,
    Event,
    Exited,
    Grant,
    GrantStatus,
    Measure,
    Measured,
    PodObserved,
    PodsListed,
    Publish,
    Record,
    Refuse,
    Release,
    Save,
    ShrinkOverdue,
    StartRequested,
    Target,
    Tick,
)
from arbiter.transitions.actions import Forget
from arbiter.units import GIB
from arbiter.workload import Priority, Resize, WorkloadType

A, B = GpuUuid("gpu-a"), GpuUuid("gpu-b")


def gib(size: float) -> int:
    return int(size * GIB)


def demand(
    *,
    floor: float = 4,
    full: float = 10,
    resize: Resize = Resize.IN_PLACE,
    priority: Priority = Priority.NORMAL,
    grace: float = 30.0,
) -> Demand:
    """Quality is bytes over full, so the defaults run from 0.4 at 4 GiB to 1.0 at 10 GiB."""
    return Demand(
        workload_type=WorkloadType.LLM_INFERENCE,
        priority=priority,
        full=gib(full),
        floor=gib(floor),
        maximum=Fraction(1),
        minimum=Fraction(floor).limit_denominator(1000) / Fraction(full).limit_denominator(1000),
        resize=resize,
        shrink_grace=grace,
    )


class Scene:
    """Twelve GiB on each of two GPUs; every measurement is answered at once with `uses` (GiB), else on trust."""

    def __init__(self, *, policy: Policy | None = None, start_wait: float = 25.0) -> None:
        self.policy = policy or Policy()
        self.start_wait = start_wait
        self.now = 1000.0
        self.pods: dict[str, PodObserved] = {}
        self.disk: dict[PodUid, Record] = {}
        self.uses: dict[str, float] = {}
        self.files: dict[str, Grant] = {}
        self.answers: dict[str, Action] = {}
        self.done: list[Action] = []
        self.boot()
        self.list()

    def boot(self) -> "Scene":
        self.engine = Engine(
            usable={A: gib(12), B: gib(12)},
            policy=self.policy,
            now=self.now,
            records=self.disk.values(),
            names={A: "gpu-1/0", B: "gpu-1/1"},
            start_wait=self.start_wait,
        )
        return self

    def restart(self) -> "Scene":
        """Killed and started again, with a complete list."""
        return self.boot().observe().list()

    def observe(self) -> "Scene":
        for pod in self.pods.values():
            self.feed(pod)
        return self

    def list(self) -> "Scene":
        return self.feed(PodsListed(frozenset(pod.uid for pod in self.pods.values())))

    def feed(self, *events: Event) -> "Scene":
        self.done = list(self.engine.handle_all(events, self.now))
        for action in self.done:
            self.carry_out(action)
        return self

    def carry_out(self, action: Action) -> None:
        match action:
            case Save(record):
                self.disk[record.uid] = record
            case Forget(uid):
                del self.disk[uid]
            case Publish(uid, grant):
                self.files[uid] = grant
            case Release(uid, _) | Refuse(uid, _, _) | ShrinkOverdue(uid, _):
                self.answers[uid] = action
            case Measure(uid):
                uses = self.uses.get(uid)
                vram = None if uses is None else gib(uses)
                self.feed(Measured(uid=uid, vram=vram, at=self.now))
            case _:
                pass

    def bound(
        self, name: str, *, wants: Demand | None = None, gpus: tuple[GpuUuid, ...] = (A,), target: float | None = None
    ) -> "Scene":
        pod = PodObserved(
            uid=PodUid(name), name=f"team/{name}", demand=wants or demand(), gpus=gpus, bound_at=len(self.pods)
        )
        return self.change(replace(pod, target=self.target(pod.demand, target)))

    @staticmethod
    def target(wants: Demand, size: float | None) -> Target | None:
        return None if size is None else Target(quality=wants.fitting(gib(size))[0], vram=gib(size))

    def change(self, pod: PodObserved) -> "Scene":
        self.pods[pod.uid] = pod
        return self.feed(pod)

    def aim(self, name: str, size: float) -> "Scene":
        pod = self.pods[name]
        return self.change(replace(pod, target=self.target(pod.demand, size)))

    def ready(self, name: str) -> "Scene":
        return self.change(replace(self.pods[name], ready=True))

    def delete(self, name: str) -> "Scene":
        return self.change(replace(self.pods[name], terminating=True))

    def request(self, name: str) -> "Scene":
        self.answers.pop(name, None)
        return self.feed(StartRequested(PodUid(name)))

    def exit(self, name: str, *, start: int | None = None) -> "Scene":
        return self.feed(Exited(PodUid(name), self.status(name).start if start is None else start))

    def acknowledge(self, name: str, *, revision: int | None = None, vram: float | None = None) -> "Scene":
        grant = self.files[name]
        size = grant.vram if vram is None else gib(vram)
        return self.feed(Acknowledged(uid=PodUid(name), revision=revision or grant.revision, vram=size))

    def running(
        self, name: str, *, size: float, wants: Demand | None = None, gpus: tuple[GpuUuid, ...] = (A,)
    ) -> "Scene":
        """Bound, released at `size`, acknowledged."""
        return self.bound(name, wants=wants, gpus=gpus, target=size).request(name).acknowledge(name)

    def after(self, seconds: float) -> "Scene":
        """Time passes, with a tick wherever the engine asks for one."""
        end = self.now + seconds
        while (deadline := self.engine.next_deadline()) is not None and self.now < deadline <= end:
            self.now = deadline
            self.feed(Tick())
        self.now = end
        return self.feed(Tick())

    def status(self, name: str) -> GrantStatus:
        return next(status for status in self.engine.statuses() if status.uid == name)

    def granted(self, name: str) -> float:
        """What the container was told last, GiB."""
        return self.files[name].vram / GIB

    def told(self, name: str) -> tuple[Fraction, float]:
        """Quality and GiB."""
        return self.files[name].quality, self.granted(name)

    def held(self, name: str) -> float:
        return self.status(name).held / GIB

    def was_released(self, name: str) -> bool:
        return isinstance(self.answers.get(name), Release)

    def refusal(self, name: str) -> str | None:
        answer = self.answers.get(name)
        return answer.sentence if isinstance(answer, Refuse) else None
