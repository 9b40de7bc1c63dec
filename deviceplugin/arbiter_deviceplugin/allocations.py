"""The plugin's own ledger: which slices it handed out, with which directory, and to whom they turned out to belong.

Pure but for the random names. Imports the core's identifiers and the slices.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from arbiter.ids import GpuUuid, PodUid
from arbiter_deviceplugin.slices import SliceId

_UNCLAIMED_SECONDS = 120.0
"""How long an allocation may be unknown to the kubelet's list: admission has not ended, or the pod never started."""


class InvalidAllocationError(ValueError):
    """A saved allocation that cannot be read."""


class Allocation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The slices of one container, and the GPUs that it is shown and uses.

    `directory` is the name of its directory; `uid` is None until its first start. `at` is when it was made, in seconds
    since the epoch.
    """

    version: Literal[1] = 1
    directory: str
    slices: tuple[SliceId, ...]
    gpus: tuple[GpuUuid, ...]
    at: float
    uid: PodUid | None = None


def encode(allocation: Allocation) -> bytes:
    """JSON with a version."""
    return msgspec.json.encode(allocation)


def decode(text: bytes) -> Allocation:
    """What `encode` wrote.

    Raises:
        InvalidAllocationError: the text is none of ours, or of another version.
    """
    try:
        return msgspec.json.decode(text, type=Allocation)
    except msgspec.MsgspecError as error:
        raise InvalidAllocationError(f"allocation cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Claims:
    """What is known of who lives: slices in the kubelet's list, and the pods that exist or whose record is kept."""

    slices: frozenset[SliceId]
    uids: frozenset[PodUid]

    def include(self, allocation: Allocation) -> bool:
        """Whether somebody may ask for it: its pod, or while nobody knows that, whoever has its slices.

        Slices of a pod that is gone are another's by now, with an allocation of its own.
        """
        if allocation.uid is not None:
            return allocation.uid in self.uids
        return self.slices.issuperset(allocation.slices)


class Allocations:
    """Every allocation, by the name of its directory."""

    def __init__(self, saved: Iterable[Allocation] = ()) -> None:
        self._by_directory = {allocation.directory: allocation for allocation in saved}
        self._suspects: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self._by_directory)

    def add(self, allocation: Allocation) -> None:
        """Notes a new allocation."""
        self._by_directory[allocation.directory] = allocation

    def claim(self, allocation: Allocation, uid: PodUid) -> Allocation:
        """Notes whose allocation it is."""
        claimed = msgspec.structs.replace(allocation, uid=uid)
        self._by_directory[allocation.directory] = claimed
        return claimed

    def remove(self, allocation: Allocation) -> None:
        """Forgets it."""
        self._by_directory.pop(allocation.directory, None)

    def taken(self) -> frozenset[SliceId]:
        """Every slice that somebody has or is about to get."""
        return frozenset(slice_ for allocation in self._by_directory.values() for slice_ in allocation.slices)

    def of_slices(self, slices: frozenset[SliceId]) -> Allocation | None:
        """The newest allocation of exactly these slices: an older one is that of a pod whose slices were freed."""
        matching = [a for a in self._by_directory.values() if frozenset(a.slices) == slices]
        return max(matching, key=lambda allocation: allocation.at, default=None)

    def of_pod(self, uid: PodUid) -> Allocation | None:
        """The newest allocation of a pod."""
        matching = [a for a in self._by_directory.values() if a.uid == uid]
        return max(matching, key=lambda allocation: allocation.at, default=None)

    def all_of_pod(self, uid: PodUid) -> list[Allocation]:
        """Every allocation of a pod: a kubelet that lost its checkpoint makes a second one."""
        return [a for a in self._by_directory.values() if a.uid == uid]

    def claimed(self) -> list[Allocation]:
        """Those whose pod is known."""
        return [a for a in self._by_directory.values() if a.uid is not None]

    def stale(self, claims: Claims, *, now: float) -> list[Allocation]:
        """Those that nobody can ask for any more, by what is known now and was at the look before.

        Twice, since a kubelet that has just started lists nothing until it has read its pods.
        """
        unclaimed = [
            allocation
            for allocation in self._by_directory.values()
            if not claims.include(allocation) and now - allocation.at > _UNCLAIMED_SECONDS
        ]
        before, self._suspects = self._suspects, frozenset(allocation.directory for allocation in unclaimed)
        return [allocation for allocation in unclaimed if allocation.directory in before]
