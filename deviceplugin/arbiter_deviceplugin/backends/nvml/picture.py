"""One reading out of what every GPU answered: who is healthy, who is lost, who is left out.

Pure: time is a parameter (s). Imports the backends' data types.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from arbiter.ids import GpuUuid
from arbiter_deviceplugin.backends import Gpu, Reading
from arbiter_deviceplugin.backends.nvml.health import Health, Recovery

PATIENCE = 3
"""Failed readings in a row, before a GPU is not healthy: one transient error must not stop it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A GPU that could be read; `recovery` is what its driver asks for, None where it cannot tell."""

    gpu: Gpu
    has_mig: bool
    recovery: Recovery | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A GPU that could not be read, by its index. `certain`: it is no error that may pass by itself."""

    index: int
    why: str
    certain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A GPU as it was last shown, the failed readings since, and whether they were enough to give it up."""

    gpu: Gpu
    failures: int = 0
    is_lost: bool = False


class Picture:
    """The GPUs that were ever seen: containers may hold their slices, so none of them is forgotten."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._known: dict[GpuUuid, _Known] = {}

    @property
    def has_lost(self) -> bool:
        """Whether a GPU that was seen cannot be read any more."""
        return any(known.is_lost for known in self._known.values())

    def take(self, answers: Sequence[Answer | Failure], *, now: float) -> Reading:
        """The reading that these answers make."""
        read = {answer.gpu.uuid: answer for answer in answers if isinstance(answer, Answer)}
        failures = {answer.index: answer for answer in answers if isinstance(answer, Failure)}
        gpus = [gpu for answer in read.values() if (gpu := self._answered(answer, now=now)) is not None]
        missing = [known for uuid, known in self._known.items() if uuid not in read]
        gpus += [self._unread(known, failures) for known in missing]
        left_out = [
            f"GPU {answer.gpu.index} ({answer.gpu.uuid}) is in MIG mode"
            for uuid, answer in read.items()
            if uuid not in self._known
        ]
        return Reading(
            gpus=tuple(sorted(gpus, key=lambda gpu: (gpu.index, gpu.uuid))),
            left_out=tuple(left_out),
            unread=frozenset(known.gpu.uuid for known in missing),
        )

    def _answered(self, answer: Answer, *, now: float) -> Gpu | None:
        """The GPU as it is shown; None for one in MIG mode that was never offered."""
        uuid = answer.gpu.uuid
        known = self._known.get(uuid)
        if answer.has_mig and known is None:
            return None
        if known is not None and known.is_lost:
            self._health.forget(uuid)
        complaint = self._health.complaint(uuid, answer.recovery, now=now)
        if answer.has_mig:
            complaint = "it was switched to MIG mode."
        gpu = answer.gpu if complaint is None else replace(answer.gpu, healthy=False, reason=complaint)
        self._known[uuid] = _Known(gpu=gpu)
        return gpu

    def _unread(self, known: _Known, failures: dict[int, Failure]) -> Gpu:
        """As it was last: not healthy once that is certain. What containers use of it stays as it was seen."""
        gpu = known.gpu
        # After a new start of the library the indices may be others.
        failure = failures.get(gpu.index) or next(iter(failures.values()), None)
        failed = known.failures + 1
        is_lost = known.is_lost or failure is None or failure.certain or failed >= PATIENCE
        self._known[gpu.uuid] = _Known(gpu=gpu, failures=failed, is_lost=is_lost)
        if not is_lost:
            return gpu
        why = failure.why if failure else "it is not listed any more"
        return replace(gpu, used=None, healthy=False, reason=f"NVML cannot read it: {why}.")
