"""Sizes as people write them and as Arbiter prints them."""

import pytest

from arbiter.units import GIB, KIB, MIB, QuantityError, format_bytes, format_mib, parse_bytes, slices_for


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10Gi", 10 * GIB),
        ("1843Mi", 1843 * MIB),
        ("1.5Gi", 3 * GIB // 2),
        (".5Gi", GIB // 2),
        ("2.Gi", 2 * GIB),
        ("1Ki", KIB),
        ("1Ti", GIB * KIB),
        ("500M", 500_000_000),
        ("10G", 10_000_000_000),
        ("1k", 1000),
        ("1E", 10**18),
        ("1e9", 10**9),
        ("1E3", 1000),
        ("12e-1", 1),
        ("1500m", 1),
        ("4096", 4096),
        (4096, 4096),
        ("0", 0),
        (" 8Gi ", 8 * GIB),
        ("0.3333333333Gi", 357913941),
        (str(2**62 - 1), 2**62 - 1),
    ],
)
def test_a_kubernetes_quantity_is_bytes(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["ten", "", "Gi", ".", "10 Gi", "10GiB", "10gi", "-1Gi", "1e", "0x10", "1,5Gi", "1e100", "9" * 31, "\u0661Gi"],
)
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(QuantityError) as refusal:
        parse_bytes(text)
    assert str(refusal.value) == f'"{text}" is no size; write a number with a unit, such as 10Gi or 1843Mi'


@pytest.mark.parametrize("text", ["4Ei", "9" * 30, "1e99"])
def test_more_than_any_memory_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match=r"is larger than any memory; write a size such as 10Gi$"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(10 * GIB, "10Gi"), (1843 * MIB, "1843Mi"), (3 * KIB, "3Ki"), (1500, "1500"), (0, "0"), (KIB * GIB, "1024Gi")],
)
def test_the_shortest_exact_text(size: int, text: str) -> None:
    assert format_bytes(size) == text
    assert parse_bytes(text) == size


def test_targets_are_whole_mib_rounded_down() -> None:
    assert format_mib(9257 * MIB - 1) == "9256Mi"


@pytest.mark.parametrize(("size", "slices"), [(0, 0), (1, 1), (GIB, 1), (GIB + 1, 2), (1843 * MIB, 2)])
def test_slices_cover_a_size(size: int, slices: int) -> None:
    assert slices_for(size, unit=GIB) == slices
