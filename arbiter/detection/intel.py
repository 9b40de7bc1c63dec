"""Intel's GPUs by xpu-smi. Imports the standard library only.

``discovery -j`` lists cards; which fields it has beside their names differs between versions, ``discovery -d ID -j``
has them all. Counts are text, in bytes.
"""

from arbiter.detection.answers import Answer, Fields, answer, fields, json_in, objects, whole, words
from arbiter.detection.command import Ask, ToolError
from arbiter.detection.info import GpuInfo, GpuVendor

_NAMELESS = "Intel GPU"
_SIZE = "memory_physical_size_byte"


def by_xpu_smi(ask: Ask) -> Answer:
    """What xpu-smi discovers.

    Raises:
        ToolError: it does not answer.
    """
    return answer(_gpu(card if _SIZE in card else _asked_alone(ask, card)) for card in _listed(ask, "-j"))


def _listed(ask: Ask, *arguments: str) -> list[Fields]:
    told = fields(json_in(ask(["xpu-smi", "discovery", *arguments])))
    if "error" in told:
        raise ToolError(f"failed: {told['error']}")
    return objects(told.get("device_list", [told]))


def _asked_alone(ask: Ask, card: Fields) -> Fields:
    return {**card, **next(iter(_listed(ask, "-d", str(card.get("device_id")), "-j")), {})}


def _gpu(card: Fields) -> GpuInfo | str:
    index, name, total = whole(card.get("device_id")), words(card.get("device_name")), whole(card.get(_SIZE))
    if index is None or not total:
        return f"GPU {index} ({name or _NAMELESS}) does not tell how much memory it has."
    return GpuInfo(
        device_id=index,
        vendor=GpuVendor.INTEL,
        name=name or _NAMELESS,
        vram_total=total,
        vram_free=whole(card.get("memory_free_size_byte")),
        driver_version=words(card.get("driver_version")),
    )
