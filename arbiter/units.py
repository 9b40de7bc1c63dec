"""Sizes of memory as people write them and as Arbiter prints them; integer bytes everywhere else.

Imports the standard library only.
"""

import re
from fractions import Fraction
from typing import NewType

Slices = NewType("Slices", int)
"""A count of device ids, each standing for one `vramUnit` of memory. Bytes are plain integers."""

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

_SUFFIXES: dict[str, int | Fraction] = {
    "": 1,
    **{letter + "i": 1 << (10 * power) for power, letter in enumerate("KMGTPE", start=1)},
    **{letter: 1000**power for power, letter in enumerate(["k", "M", "G", "T", "P", "E"], start=1)},
    "m": Fraction(1, 1000),
}
# Digits and exponents are bounded because annotations are anybody's text and exact fractions have no largest value.
_QUANTITY = re.compile(
    r"(?P<number>\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE](?P<exponent>[+-]?\d{1,2})|(?P<suffix>[A-Za-z]*))", re.ASCII
)
_TOO_LARGE = 1 << 62


class QuantityError(ValueError):
    """A size that is not a Kubernetes quantity; its text says what was read and what to write instead."""


def parse_bytes(text: str | int) -> int:
    """Bytes from a Kubernetes quantity such as ``10Gi``, ``1843Mi``, ``500M`` or ``1e9``; parts of a byte round down.

    Raises:
        QuantityError: the text is no quantity, or 4Ei bytes or more, which the CRDs refuse as well.
    """
    size = int(parse_quantity(text))
    if size >= _TOO_LARGE:
        raise QuantityError(f'"{text}" is larger than any memory; write a size such as 10Gi')
    return size


def parse_quantity(text: str | int) -> Fraction:
    """The number that a Kubernetes quantity stands for: ``250m`` is a quarter.

    Raises:
        QuantityError: the text is no quantity.
    """
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None or (match["suffix"] or "") not in _SUFFIXES:
        raise QuantityError(f'"{text}" is no size; write a number with a unit, such as 10Gi or 1843Mi')
    scale = Fraction(10) ** int(match["exponent"]) if match["exponent"] else _SUFFIXES[match["suffix"]]
    return Fraction(match["number"]) * scale


def format_bytes(size: int) -> str:
    """The shortest exact binary quantity: ``10Gi``, ``1843Mi``, ``1500`` for bytes that are no whole KiB."""
    for suffix, unit in (("Gi", GIB), ("Mi", MIB), ("Ki", KIB)):
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def format_mib(size: int) -> str:
    """Whole MiB, rounded down, as targets are written: ``9256Mi``."""
    return f"{size // MIB}Mi"


def slices_for(size: int, *, unit: int) -> Slices:
    """Slices of `unit` bytes that cover `size` bytes, rounded up."""
    return Slices(-(-size // unit))
