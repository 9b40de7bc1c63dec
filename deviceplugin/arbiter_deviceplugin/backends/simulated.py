"""Simulated GPUs from a YAML file, for machines without any; whoever edits the file plays the driver.

A file without `use` is a driver that cannot tell which container uses how much.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pydantic
import yaml

from arbiter.ids import GpuUuid
from arbiter_deviceplugin.backends import BackendError, Gpu, Reading

_INTERVAL = 0.5


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class _Gpu(_Model):
    uuid: str = pydantic.Field(pattern=r"^[A-Za-z0-9-]{1,50}$")
    index: int = pydantic.Field(ge=0)
    name: str = "SIM"
    total: int = pydantic.Field(gt=0)
    reserved: int = pydantic.Field(default=0, ge=0)
    used: int = pydantic.Field(default=0, ge=0)
    healthy: bool = True
    reason: str | None = None


class _Use(_Model):
    pod: str
    vram: int = pydantic.Field(ge=0)


class _File(_Model):
    gpus: tuple[_Gpu, ...]
    use: tuple[_Use, ...] | None = None

    @pydantic.model_validator(mode="after")
    def _each_gpu_once(self) -> "_File":
        for name in ("uuid", "index"):
            counts = Counter(getattr(gpu, name) for gpu in self.gpus)
            for value, count in counts.items():
                if count > 1:
                    raise ValueError(f"{count} GPUs have the {name} {value}; give each its own")
        return self


class SimulatedBackend:
    """Reads the file again whenever it was replaced or changed."""

    vendor = "simulated"
    shows_gpus = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._reading = Reading()
        self._known: dict[GpuUuid, Gpu] = {}

    async def read(self) -> Reading:
        """What the file says.

        Raises:
            BackendError: it is missing or not readable as GPUs.
        """
        return await asyncio.to_thread(self._read)

    async def idle(self) -> None:
        """A moment: the file is all that there is to watch."""
        await asyncio.sleep(_INTERVAL)

    async def limit(self, gpu: GpuUuid, control_group: str, size: int) -> None:  # noqa: ARG002 - the Protocol's
        """Nothing is enforced by a file."""
        raise BackendError("Simulated GPUs enforce no limits.")

    async def close(self) -> None:
        """Nothing is held open."""

    def _read(self) -> Reading:
        try:
            stat = self._path.stat()
            version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if version != self._seen:
                listed = _parse(self._path.read_text())
                self._known = _lost(self._known) | listed
                self._reading = Reading(
                    gpus=tuple(sorted(self._known.values(), key=lambda gpu: (gpu.index, gpu.uuid))),
                    unread=frozenset(self._known.keys() - listed.keys()),
                )
                self._seen = version
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise BackendError(f"simulated GPUs cannot be read from {self._path}: {_said(error)}.") from error
        return self._reading


def _parse(text: str) -> dict[GpuUuid, Gpu]:
    file = _File.model_validate(yaml.safe_load(text))
    use = None if file.use is None else {entry.pod: entry.vram for entry in file.use}
    gpus = (Gpu(**gpu.model_dump(exclude={"uuid"}), uuid=GpuUuid(gpu.uuid), use=use) for gpu in file.gpus)
    return {gpu.uuid: gpu for gpu in gpus}


def _lost(known: Mapping[GpuUuid, Gpu]) -> dict[GpuUuid, Gpu]:
    """GPUs as they are shown once the file does not list them any more: containers may hold their slices."""
    why = "it is not listed any more."
    return {uuid: replace(gpu, used=None, healthy=False, reason=why) for uuid, gpu in known.items()}


def _said(error: Exception) -> str:
    """The first thing that is wrong, as part of a sentence; parsers explain themselves in many lines."""
    if isinstance(error, pydantic.ValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        return f"{where}: {what}" if where else what
    return " ".join(str(error).split()).rstrip(".")
