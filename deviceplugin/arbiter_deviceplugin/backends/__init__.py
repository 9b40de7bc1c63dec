"""Where GPUs are read from: one small Protocol, one module for each kind.

Sizes are bytes. Imports the core's identifiers only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from arbiter.ids import GpuUuid


class BackendError(Exception):
    """The GPUs cannot be read now; the text says why in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as its driver describes it; `used` is None where that cannot be told, `reason` says why not healthy."""

    uuid: GpuUuid
    index: int
    name: str
    total: int
    reserved: int
    used: int | None = None
    healthy: bool = True
    reason: str | None = None

    @property
    def usable(self) -> int:
        """What containers may have of it."""
        return self.total - self.reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Every GPU at one moment, by index, and what containers were seen to use.

    `use` is the most bytes that a pod (``namespace/name``) uses on any of its GPUs; a pod that is missing uses none.
    It is None where the node has no way to tell.
    """

    gpus: tuple[Gpu, ...] = ()
    use: Mapping[str, int] | None = None

    def use_of(self, pod: str) -> int | None:
        """Bytes that a pod uses; None where the node has no way to tell."""
        return None if self.use is None else self.use.get(pod, 0)


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

    async def close(self) -> None:
        """Gives the driver back."""
        ...
