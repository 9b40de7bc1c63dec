"""How answers are printed: plain data for machines, sizes, ages and columns for people. Pure but for `emit`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import yaml
from pydantic.alias_generators import to_camel

from arbiter.units import GIB
from arbiter_cli.arguments import Output


def emit(value: object, output: Output) -> None:
    """Prints a dataclass, or several, as JSON or YAML."""
    data = as_data(value)
    if output is Output.YAML:
        print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), end="")
    else:
        print(json.dumps(data, indent=2))


def as_data(value: object) -> Any:  # any JSON value
    """Plain data: dataclasses become objects with names in camel case, qualities numbers, enums their values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {to_camel(field.name): as_data(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): as_data(item) for key, item in value.items()}
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return [as_data(item) for item in value]


def gib(size: int | None, *, digits: int = 2) -> str:
    """``12.00Gi``; a dash where the size is unknown."""
    return "-" if size is None else f"{size / GIB:.{digits}f}Gi"


def age(seconds: float) -> str:
    """An age as kubectl prints it: two figures where it is young, one where it is old."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"


def columns(rows: Sequence[Sequence[str]], *, gap: str = "  ") -> list[str]:
    """Rows as lines whose columns are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
