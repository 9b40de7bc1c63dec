"""AMD's GPUs, every card that amd-smi or else rocm-smi lists. Imports the standard library only.

amd-smi wraps its list in ``{"gpu_data": [...]}`` from ROCm 7 on (before, the list alone), writes ``N/A`` for what it
cannot tell, and by "MB" means 2**20 bytes. rocm-smi has one object for each card beside one named ``system``, its
figures as text, and the case of its field names differs between versions.
"""

from arbiter.detection.answers import Answer, Fields, answer, fields, gpu_or_problem, json_in, objects, whole, words
from arbiter.detection.command import Ask, ToolError
from arbiter.detection.info import GpuInfo, GpuVendor
from arbiter.units import GIB, KIB, MIB

_UNITS = {"B": 1, "KB": KIB, "MB": MIB, "GB": GIB}


def by_amd_smi(ask: Ask) -> Answer:
    """Memory from `amd-smi metric`, names from `amd-smi static`; cards count without their names too.

    Raises:
        ToolError: it does not tell of memory.
    """
    metrics = _cards(json_in(ask(["amd-smi", "metric", "--mem-usage", "--json"])))
    static: dict[int | None, Fields] = {}
    problems: tuple[str, ...] = ()
    try:
        static = _cards(json_in(ask(["amd-smi", "static", "--asic", "--driver", "--json"])))
    except ToolError as error:
        problems = (f"amd-smi static, which knows the names of the GPUs, {str(error).rstrip('.')}.",)
    told = answer(_from_amd_smi(index, fields(card), fields(static.get(index))) for index, card in metrics.items())
    return Answer(told.gpus, told.problems + problems)


def _cards(told: object) -> dict[int | None, Fields]:
    return {whole(card.get("gpu")): card for card in objects(fields(told).get("gpu_data", told))}


def _from_amd_smi(index: int | None, metric: Fields, static: Fields) -> GpuInfo | str:
    memory, asic, driver = fields(metric.get("mem_usage")), fields(static.get("asic")), fields(static.get("driver"))
    return gpu_or_problem(
        GpuVendor.AMD,
        index=index,
        name=words(asic.get("market_name")),
        total=_size(memory.get("total_vram")),
        free=_size(memory.get("free_vram")),
        capability=words(asic.get("target_graphics_version")),
        driver=words(driver.get("version")) or words(driver.get("driver_version")),
    )


def _size(told: object) -> int | None:
    """Bytes of `{"value": 16368, "unit": "MB"}`, or of a bare number of MB as ROCm 5 wrote it."""
    amount = whole(told.get("value") if isinstance(told, dict) else told)
    unit = _UNITS.get(str(told.get("unit"))) if isinstance(told, dict) else MIB
    return None if amount is None or unit is None else amount * unit


def by_rocm_smi(ask: Ask) -> Answer:
    """What rocm-smi lists.

    Raises:
        ToolError: it does not answer.
    """
    command = ["rocm-smi", "--showmeminfo", "vram", "--showproductname", "--showdriverversion", "--json"]
    told = {str(key): _lowered(value) for key, value in fields(json_in(ask(command))).items()}
    driver = words(told.get("system", {}).get("driver version"))
    cards = ((whole(name.removeprefix("card")), card) for name, card in told.items() if name.startswith("card"))
    return answer(_from_rocm_smi(index, card, driver=driver) for index, card in cards)


def _lowered(value: object) -> Fields:
    return {str(name).lower(): content for name, content in fields(value).items()}


def _from_rocm_smi(index: int | None, card: Fields, *, driver: str | None) -> GpuInfo | str:
    total, used = whole(card.get("vram total memory (b)")), whole(card.get("vram total used memory (b)"))
    return gpu_or_problem(
        GpuVendor.AMD,
        index=index,
        name=words(card.get("card series")) or words(card.get("card model")),
        total=total,
        free=None if total is None or used is None else total - used,
        capability=words(card.get("gfx version")),
        driver=driver,
    )
