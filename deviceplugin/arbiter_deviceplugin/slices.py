"""Device ids as the kubelet counts them: slices of one vram unit, ``<GPU uuid>::<n>``, and which of them to prefer.

Pure. Imports the core's identifiers and the backends' data types.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NewType

from arbiter.ids import GpuUuid
from arbiter.units import Slices
from arbiter_deviceplugin.backends import Gpu

SliceId = NewType("SliceId", str)

_SEPARATOR = "::"


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice as the kubelet is told of it."""

    id: SliceId
    healthy: bool


def slice_id(gpu: GpuUuid, number: int) -> SliceId:
    """The id of a GPU's slice, counted from 0."""
    return SliceId(f"{gpu}{_SEPARATOR}{number}")


def gpu_of(slice_: SliceId) -> GpuUuid:
    """The GPU that a slice belongs to."""
    return GpuUuid(slice_.rpartition(_SEPARATOR)[0])


def gpus_of(slices: Iterable[SliceId]) -> tuple[GpuUuid, ...]:
    """The GPUs that the slices belong to, each once, by uuid."""
    return tuple(sorted({gpu_of(slice_) for slice_ in slices}))


def count_by_gpu(slices: Iterable[SliceId]) -> dict[GpuUuid, Slices]:
    """How many slices of which GPU."""
    return {gpu: Slices(count) for gpu, count in Counter(gpu_of(slice_) for slice_ in slices).items()}


MOST_SLICES = 60_000
"""The kubelet takes a list of at most 4 MiB, and a slice takes up to 62 bytes of it."""


def count_of(gpus: Iterable[Gpu], *, unit: int) -> int:
    """How many slices of `unit` bytes these GPUs have."""
    return sum(gpu.usable // unit for gpu in gpus)


def offered(gpus: Collection[Gpu], *, unit: int, withheld: bool, held: Iterable[SliceId]) -> tuple[Slice, ...]:
    """Every slice of the node, of `unit` bytes; none of them healthy where they are `withheld`.

    A slice that a container holds stays in the list, not healthy where its GPU is gone or has fewer now. Where the
    kubelet would not take the list, only those are in it.
    """
    shown = gpus if count_of(gpus, unit=unit) <= MOST_SLICES else ()
    slices = {
        slice_id(gpu.uuid, number): gpu.healthy and not withheld
        for gpu in shown
        for number in range(gpu.usable // unit)
    }
    gone = {slice_: False for slice_ in sorted(held) if slice_ not in slices}
    return tuple(Slice(slice_, healthy=healthy) for slice_, healthy in (slices | gone).items())


def preferred(
    available: Iterable[SliceId],
    *,
    required: Sequence[SliceId],
    size: int,
    gpus: Sequence[GpuUuid],
    taken: Collection[SliceId],
) -> tuple[SliceId, ...]:
    """Exactly `size` of the available slices, the required ones first.

    `gpus` are those that the pod was assigned, evenly used; empty where nobody knows. `taken` are slices that the
    kubelet believes to be free though a container still has them or is about to get them: the last to be chosen.
    A wrong count would make the kubelet choose at random across GPUs, so whatever is missing comes from other GPUs,
    as few as possible.
    """
    chosen = list(dict.fromkeys(required))
    pools = _pools(available, chosen=chosen, taken=taken)
    for gpu, share in _shares(size, chosen=chosen, gpus=gpus).items():
        chosen += pools.get(gpu, [])[:share]
        pools[gpu] = pools.get(gpu, [])[share:]
    for gpu in _fewest(pools, wanted=size - len(chosen), free=_free(pools, taken), before=gpus):
        chosen += pools[gpu][: size - len(chosen)]
    return tuple(chosen[:size])


def _pools(
    available: Iterable[SliceId], *, chosen: Sequence[SliceId], taken: Collection[SliceId]
) -> dict[GpuUuid, list[SliceId]]:
    """What may be chosen of each GPU, the best first."""
    pools: dict[GpuUuid, list[SliceId]] = {}
    for slice_ in sorted(set(available).difference(chosen), key=lambda s: (s in taken, _number(s), s)):
        pools.setdefault(gpu_of(slice_), []).append(slice_)
    return pools


def _number(slice_: SliceId) -> int:
    number = slice_.rpartition(_SEPARATOR)[2]
    return int(number) if number.isdigit() else 0


def _shares(size: int, *, chosen: Sequence[SliceId], gpus: Sequence[GpuUuid]) -> dict[GpuUuid, int]:
    """How many more slices each assigned GPU is to give."""
    if not gpus:
        return {}
    each, rest = divmod(size, len(gpus))
    has = count_by_gpu(chosen)
    return {gpu: max(0, each + (position < rest) - has.get(gpu, 0)) for position, gpu in enumerate(gpus)}


def _free(pools: Mapping[GpuUuid, Sequence[SliceId]], taken: Collection[SliceId]) -> dict[GpuUuid, int]:
    return {gpu: sum(slice_ not in taken for slice_ in pool) for gpu, pool in pools.items()}


def _fewest(
    pools: Mapping[GpuUuid, Sequence[SliceId]],
    *,
    wanted: int,
    free: Mapping[GpuUuid, int],
    before: Sequence[GpuUuid],
) -> list[GpuUuid]:
    """GPUs in the order in which to use them: assigned ones, then the tightest that has enough, then the freest."""
    enough = sorted((gpu for gpu in pools if free[gpu] >= wanted), key=lambda gpu: (free[gpu], gpu))
    others = sorted(pools, key=lambda gpu: (-free[gpu], -len(pools[gpu]), gpu))
    return list(dict.fromkeys([*(gpu for gpu in before if gpu in pools), *enough, *others]))
