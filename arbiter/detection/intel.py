"""Intel's GPUs by xpu-smi. Imports the standard library only.

``discovery -j`` lists cards; which fields it has beside their names differs between versions, ``discovery -d ID -j``
has them all. Counts are text, in bytes.
"""

from arbiter.detection.answers import Answer, Fields, answer, fields, gpu_or_problem, json_in, objects, whole, words
from arbiter.detection.command import Ask, ToolError
from arbiter.detection.info import GpuInfo, GpuVendor

_SIZE = "memory_physical_size_byte"


def by_xpu_smi(ask: Ask) -> Answer:
    """What xpu-smi discovers.

    Raises:
        ToolError: it does not answer.
    """
    return answer(_gpu(ask, card) for card in _listed(ask, "-j"))


def _listed(ask: Ask, *arguments: str) -> list[Fields]:
    told = fields(json_in(ask(["xpu-smi", "discovery", *arguments])))
    if "error" in told:
        raise ToolError(f"failed: {told['error']}")
    return objects(told.get("device_list", [told]))


def _gpu(ask: Ask, listed: Fields) -> GpuInfo | str:
    index, card = whole(listed.get("device_id")), listed
    if _SIZE not in listed:
        try:
            card = {**listed, **next(iter(_listed(ask, "-d", str(index), "-j")), {})}
        except ToolError as error:
            return f"xpu-smi cannot read GPU {index}: it {error}."
    return gpu_or_problem(
        GpuVendor.INTEL,
        index=index,
        name=words(card.get("device_name")),
        total=whole(card.get(_SIZE)),
        free=whole(card.get("memory_free_size_byte")),
        driver=words(card.get("driver_version")),
    )
