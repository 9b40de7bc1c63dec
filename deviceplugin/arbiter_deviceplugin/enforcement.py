"""How firmly a GPU's grants are held: the ladder's rung of each GPU, and the limits of the rungs that have any.

Thin I/O around the backend's limits. Imports the engine's records and the backends' data types.
"""

import logging
from collections.abc import Iterable, Mapping
from enum import StrEnum

from arbiter.ids import GpuUuid, PodUid
from arbiter.transitions import Record
from arbiter_deviceplugin.backends import Backend, BackendError, Gpu, Limits
from arbiter_deviceplugin.inventory import Inventory

_log = logging.getLogger(__name__)

_APPEARS = 30.0
"""Seconds after its release within which a container's first process is expected."""


class Enforcement(StrEnum):
    """The rungs, the firmest first: what happens to a container that takes more than it may hold."""

    DMEM = Limits.DMEM.value
    """The kernel refuses it the memory."""
    MISC = Limits.MISC.value
    """The driver refuses it the memory."""
    MONITOR = "monitor"
    """It is seen and named."""
    NONE = "none"
    """Nobody notices."""


class Enforcer:
    """Keeps the limit of every running container at what it may hold, on GPUs whose driver can limit.

    A limit belongs to the container's control group, which is known once its first process was seen: for that moment
    after a start the GPU's rung is a lower one.
    """

    def __init__(self, backend: Backend, inventory: Inventory) -> None:
        self._backend = backend
        self._inventory = inventory
        self._records: dict[PodUid, Record] = {}
        self._groups: Mapping[PodUid, str] = {}
        self._in_force: dict[tuple[GpuUuid, str], int] = {}

    async def follow(self, record: Record) -> None:
        """Takes in what a container may hold now; its limit follows before this returns, if it can be set."""
        self._records[record.uid] = record
        await self._apply([record.uid])

    def forget(self, uid: PodUid) -> None:
        """The container holds nothing any more."""
        self._records.pop(uid, None)

    async def see(self, groups: Mapping[PodUid, str]) -> None:
        """Takes in the control groups of the containers that run."""
        self._groups = groups
        self._in_force = {key: size for key, size in self._in_force.items() if key[1] in groups.values()}
        await self._apply(list(self._records))

    def is_awaiting(self, now: float) -> bool:
        """Whether a container that was let go within the last seconds has no limit yet, since nobody saw its group."""
        able = self._able()
        return any(
            record.released_at is not None and now < record.released_at + _APPEARS and not able.isdisjoint(record.gpus)
            for uid, record in self._records.items()
            if uid not in self._groups
        )

    def rung(self, gpu: Gpu) -> Enforcement:
        """What holds on this GPU now, for every container that runs there."""
        here = [record for record in self._records.values() if _uses(record, gpu.uuid)]
        if gpu.limits is not None and all(self._is_limited(record, gpu.uuid) for record in here):
            return Enforcement(gpu.limits.value)
        return Enforcement.NONE if gpu.use is None else Enforcement.MONITOR

    def _is_limited(self, record: Record, gpu: GpuUuid) -> bool:
        """Whether the container cannot take more of the GPU than it may hold."""
        group = self._groups.get(record.uid)
        return group is not None and self._in_force.get((gpu, group)) == record.may_hold

    def _able(self) -> set[GpuUuid]:
        """The GPUs whose driver can limit."""
        return {gpu.uuid for gpu in self._inventory.reading.gpus if gpu.limits is not None}

    async def _apply(self, uids: Iterable[PodUid]) -> None:
        """Limits these containers where they are not, each by what it may hold when it is its turn.

        It may be another size than when the first was limited: a driver takes its time.
        """
        for uid in uids:
            for gpu in self._able():
                record, group = self._records.get(uid), self._groups.get(uid)
                if record and group and _uses(record, gpu) and not self._is_limited(record, gpu):
                    await self._limit(gpu, group, record.may_hold)

    async def _limit(self, gpu: GpuUuid, group: str, size: int) -> None:
        try:
            await self._backend.limit(gpu, group, size)
        except BackendError as error:
            self._in_force.pop((gpu, group), None)
            _log.warning("limit not set gpu=%s group=%s bytes=%d error=%s", gpu, group, size, error)
        else:
            self._in_force[gpu, group] = size


def _uses(record: Record, gpu: GpuUuid) -> bool:
    """Whether a container of it runs there."""
    return record.released_at is not None and gpu in record.gpus
