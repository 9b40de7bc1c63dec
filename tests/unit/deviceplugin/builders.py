"""A GPU, and a backend that reads it as it is told."""

from arbiter.ids import GpuUuid
from arbiter.units import GIB
from arbiter_deviceplugin.backends import BackendError, Gpu, Reading

GPU = Gpu(uuid=GpuUuid("GPU-a"), index=0, name="SIM", total=12 * GIB, reserved=0, used=5)


class Scripted:
    """A backend that answers what it is told to."""

    vendor = "scripted"
    shows_gpus = False

    def __init__(self, *answers: Reading | None) -> None:
        self._answers = list(answers)
        self.limits: list[tuple[GpuUuid, str, int]] = []
        self.refused: set[str] = set()

    async def read(self) -> Reading:
        answer = self._answers.pop(0)
        if answer is None:
            raise BackendError("driver away.")
        return answer

    async def idle(self) -> None:
        """Nothing to wait for."""

    async def limit(self, gpu: GpuUuid, control_group: str, size: int) -> None:
        self.limits.append((gpu, control_group, size))
        if control_group in self.refused:
            raise BackendError("refused.")

    async def close(self) -> None:
        """Nothing to close."""
