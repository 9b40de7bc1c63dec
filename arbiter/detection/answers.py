"""Reads what tools write: numbers as text, words for "cannot tell", warnings before JSON.

Imports the standard library only.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from arbiter.detection.command import ToolError
from arbiter.detection.info import UNKNOWN_GPU, GpuInfo, GpuVendor

_UNKNOWN = {"", "n/a", "unknown", "none"}
_LONGEST_COUNT = 30
_BRACKETED = re.compile(r"\[.*\]")

Fields = Mapping[str, Any]
"""A JSON object that a tool wrote; what is in it is checked field by field."""


@dataclass(frozen=True, slots=True)
class Answer:
    """GPUs that a tool told of, and sentences about those that it could not tell of."""

    gpus: tuple[GpuInfo, ...]
    problems: tuple[str, ...] = ()


def answer(readings: Iterable[GpuInfo | str]) -> Answer:
    """GPUs, and sentences in the place of those that could not be read."""
    everything = list(readings)
    return Answer(
        gpus=tuple(reading for reading in everything if isinstance(reading, GpuInfo)),
        problems=tuple(reading for reading in everything if isinstance(reading, str)),
    )


def gpu_or_problem(
    vendor: GpuVendor,
    *,
    index: int | None,
    name: str | None,
    total: int | None,
    free: int | None = None,
    capability: str | None = None,
    driver: str | None = None,
) -> GpuInfo | str:
    """A GPU by what could be read of it, sizes in bytes; a sentence where it has no size."""
    if index is None or not total:
        return f"GPU {index} ({name or UNKNOWN_GPU}) does not tell how much memory it has."
    return GpuInfo(
        device_id=index,
        vendor=vendor,
        name=name or UNKNOWN_GPU,
        vram_total=total,
        vram_free=None if free is None else min(max(free, 0), total),
        compute_capability=capability,
        driver_version=driver,
    )


def json_in(output: str) -> object:
    """The first JSON object or list in the output; tools print warnings before it.

    Raises:
        ToolError: there is none.
    """
    for start in re.finditer(r"^[ \t]*[\[{]", output, re.MULTILINE):
        try:
            return json.JSONDecoder().raw_decode(output, start.end() - 1)[0]
        except (ValueError, RecursionError):
            continue
    raise ToolError("answered no JSON")


def objects(value: object) -> list[Fields]:
    """The objects of a list; nothing for what is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def fields(value: object) -> Fields:
    """An object; an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def whole(value: object) -> int | None:
    """A count, written as a number or as text; None for words such as N/A or [Not Supported]."""
    if isinstance(value, str) and len(value) <= _LONGEST_COUNT and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def words(value: object) -> str | None:
    """A name or version; None for words that say that there is none."""
    if not isinstance(value, str) or value.strip().lower() in _UNKNOWN or _BRACKETED.fullmatch(value.strip()):
        return None
    return value.strip()
