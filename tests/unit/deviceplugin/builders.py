"""A GPU, a backend that reads it as it is told, and what a kubelet tells of a pod."""

from datetime import UTC, datetime

from arbiter.ids import GpuUuid
from arbiter.units import GIB
from arbiter_deviceplugin.backends import BackendError, Gpu, Reading
from arbiter_kube.api.objects import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStatus,
    ObjectMeta,
    Pod,
    PodPhase,
    PodStatus,
)

GPU = Gpu(uuid=GpuUuid("GPU-a"), index=0, name="SIM", total=12 * GIB, reserved=0, used=5)


def reported(
    metadata: ObjectMeta, container: str, *, running: bool, began: float = 1000.0, phase: PodPhase = PodPhase.RUNNING
) -> Pod:
    """A pod whose last container, by this id, runs or has ended; `began` in seconds since the epoch."""
    at = datetime.fromtimestamp(began, UTC)
    state = (
        ContainerState(running=ContainerStateRunning(started_at=at))
        if running
        else ContainerState(terminated=ContainerStateTerminated(started_at=at))
    )
    status = ContainerStatus(name="main", container_id=f"containerd://{container}", state=state)
    return Pod(metadata=metadata, status=PodStatus(phase=phase, container_statuses=(status,)))


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
