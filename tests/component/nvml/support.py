"""GPUs as a stub of NVIDIA's library plays them, and what the backend should make of them."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from arbiter.ids import GpuUuid
from arbiter.units import GIB, MIB
from arbiter_deviceplugin.backends import BackendError, Gpu, Limits
from arbiter_deviceplugin.backends.nvml import NvmlBackend
from tests.component.deviceplugin.support import eventually
from tests.support.nvml_stub import StubGpu

RESERVED = 368 * MIB
A = Gpu(
    uuid=GpuUuid("GPU-a"), index=0, name="Stub", total=12 * GIB, reserved=RESERVED, used=0, use={}, limits=Limits.MISC
)
B = replace(A, uuid=GpuUuid("GPU-b"), index=1)

POD = "11111111-2222-3333-4444-555555555555"
STATIC = "0123456789abcdef0123456789abcdef"
CONTAINER = "a" * 64


def stubbed(gpu: Gpu, **changes: Any) -> StubGpu:
    return StubGpu(**{"uuid": gpu.uuid, "total": gpu.total, "reserved": gpu.reserved, **changes})


SA, SB = stubbed(A), stubbed(B)


def lost(gpu: Gpu, why: str) -> Gpu:
    return replace(gpu, used=None, healthy=False, reason=f"NVML cannot read it: {why}.")


def failing(gpu: Gpu, reason: str) -> Gpu:
    return replace(gpu, healthy=False, reason=reason)


class Clock:
    """A time that tests set, for everything but the limit of a call."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


Make = Callable[..., NvmlBackend]


async def read(backend: NvmlBackend) -> tuple[Gpu, ...]:
    return (await backend.read()).gpus


async def eventually_reads(backend: NvmlBackend, gpus: tuple[Gpu, ...]) -> None:
    async def does() -> bool:
        with suppress(BackendError):
            return await read(backend) == gpus
        return False

    await eventually(does, "recovery")
