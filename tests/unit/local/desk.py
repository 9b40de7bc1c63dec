"""A scene around one allocator: claims by name, sizes in GiB, a clock that is turned."""

from dataclasses import replace

from arbiter.ids import PodUid
from arbiter.local.allocator import Allocator
from arbiter.local.claim import Changed, Granted, QualityTarget, Refused
from arbiter.local.config import ArbiterConfig
from arbiter.local.errors import ArbiterError
from arbiter.local.request import AllocationRequest
from arbiter.local.statistics import ArbiterState, ArbiterStats
from arbiter.units import GIB
from arbiter.workload import Priority, WorkloadType

LLM, IMAGE, VIDEO = "LlmInference", "ImageGeneration", "VideoGeneration"


def gib(size: float) -> int:
    return int(size * GIB)


class Desk:
    """Keeps what every claim was told last, or refused with."""

    def __init__(self, capacity: float = 24, config: ArbiterConfig | None = None) -> None:
        self.config = replace(config or ArbiterConfig(), vram_budget=gib(capacity))
        self.now = 1000.0
        self.allocator = Allocator(self.config, now=self.now)
        self.uids: dict[str, PodUid] = {}
        self.told: dict[str, QualityTarget] = {}
        self.refused: dict[str, ArbiterError] = {}
        self.changes: list[str] = []

    def ask(
        self,
        name: str,
        size: float,
        *,
        kind: str = LLM,
        priority: str = "Normal",
        floor: float | None = None,
        quality: float | None = None,
        timeout: float | None = None,
        no_wait: bool = False,
    ) -> "Desk":
        request = AllocationRequest(
            workload_type=WorkloadType(kind),
            priority=Priority(priority),
            memory_required=gib(size),
            minimum_memory=None if floor is None else gib(floor),
            minimum_quality=quality,
            timeout=timeout,
            no_wait=no_wait,
        )
        self.uids[name] = self.allocator.submit(request, self.now)
        return self.settle()

    def release(self, name: str) -> "Desk":
        assert self.allocator.release(self.uids[name])
        return self.settle()

    def acknowledge(self, name: str, *, target: QualityTarget | None = None) -> "Desk":
        told = target or self.told[name]
        self.allocator.acknowledge(self.uids[name], revision=told.revision, memory=told.memory, now=self.now)
        return self.settle()

    def close(self) -> "Desk":
        self.allocator.close()
        return self.settle()

    def settle(self) -> "Desk":
        names = {uid: name for name, uid in self.uids.items()}
        self.changes = []
        for notice in self.allocator.settle(self.now):
            name = names[notice.uid]
            match notice:
                case Granted(_, target) | Changed(_, target):
                    self.told[name] = target
                    self.changes.append(name)
                case Refused(_, error):
                    self.refused[name] = error
        return self

    def after(self, seconds: float) -> "Desk":
        """Time passes; the allocator settles whenever it asks to."""
        end = self.now + seconds
        while (deadline := self.allocator.next_deadline()) is not None and deadline <= end:
            assert deadline > self.now, "it asks for a moment that has passed"
            self.now = deadline
            self.settle()
        self.now = end
        return self.settle()

    def quality(self, name: str) -> float:
        return self.told[name].quality

    def memory(self, name: str) -> float:
        """What it was told last, GiB to three decimals."""
        return round(self.told[name].memory / GIB, 3)

    def holds(self, name: str) -> bool:
        return name in self.told

    def waits(self, name: str) -> bool:
        return name not in self.told and name not in self.refused

    def error(self, name: str) -> ArbiterError:
        return self.refused[name]

    @property
    def state(self) -> ArbiterState:
        return self.allocator.state

    @property
    def stats(self) -> ArbiterStats:
        return self.allocator.stats
