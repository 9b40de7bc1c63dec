"""Where GPUs are read from: one small Protocol, one module for each kind.

Sizes are bytes. Imports the core's identifiers only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from arbiter.ids import GpuUuid


class BackendError(Exception):
    """The GPUs cannot be read now, or a limit cannot be set; the text says why in one sentence."""


class Limits(StrEnum):
    """Who enforces the memory limits of control groups, in the words of NVIDIA's driver."""

    DMEM = "dmem"
    """The kernel's controller."""
    MISC = "misc"
    """The driver's own accounting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as its driver describes it; `reason` says why it is not healthy, `links` which GPUs NVLink joins it to.

    `used` is None where it cannot be told. `use` is what each pod uses of this GPU, by its name (``namespace/name``)
    or by the UID under which the kubelet knows it; None where the driver has no way to tell. `limits` says who could
    enforce a limit here, None if nobody.
    """

    uuid: GpuUuid
    index: int
    name: str
    total: int
    reserved: int
    used: int | None = None
    use: Mapping[str, int] | None = None
    healthy: bool = True
    reason: str | None = None
    links: tuple[GpuUuid, ...] = ()
    limits: Limits | None = None

    @property
    def usable(self) -> int:
        """What containers may have of it."""
        return self.total - self.reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Every GPU at one moment, by index, and the sentences that say which ones are left out and why.

    Those in `unread` could not be read this time and are shown as they were before.
    """

    gpus: tuple[Gpu, ...] = ()
    left_out: tuple[str, ...] = ()
    unread: frozenset[GpuUuid] = frozenset()

    def use_of(self, names: Iterable[str], gpus: Iterable[GpuUuid]) -> int | None:
        """The most bytes that the pod with one of these names uses on one of these GPUs.

        None where that cannot be told of each of them.
        """
        known = {gpu.uuid: gpu.use for gpu in self.gpus}
        uses = [known.get(gpu) for gpu in gpus]
        told = [use for use in uses if use is not None]
        if not told or len(told) < len(uses):
            return None
        return max(use.get(name, 0) for use in told for name in names)


class Backend(Protocol):
    """One way to read GPUs."""

    vendor: str
    shows_gpus: bool
    """Whether containers see these GPUs by NVIDIA's runtime, which is told by an environment variable."""

    async def read(self) -> Reading:
        """The GPUs now.

        Raises:
            BackendError: they cannot be read; what was read before may still hold.
        """
        ...

    async def idle(self) -> None:
        """Returns when it is time to read again: after a pause, or as soon as the driver has reported something."""
        ...

    async def limit(self, gpu: GpuUuid, control_group: str, size: int) -> None:
        """Lets a control group (a path below version 2's root) hold up to `size` bytes of a GPU that has `limits`.

        Raises:
            BackendError: the driver refuses, or does not answer.
        """
        ...

    async def close(self) -> None:
        """Gives the driver back."""
        ...
