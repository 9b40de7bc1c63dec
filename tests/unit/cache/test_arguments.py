"""What people hand to the cache: settings, names, sizes and times, and what is refused of them."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbiter.cache import (
    CacheConfig,
    CacheConfigError,
    CacheError,
    FragmentCache,
    InvalidFragmentError,
)
from arbiter.units import GIB
from tests.support.patience import PATIENCE
from tests.unit.cache.support import NVME, RAM, VRAM, A, B, C, MemorySource, content, file_cache, fragment, named


def test_a_workload_type_may_be_named(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=200, source=MemorySource(content("a"))) as cache:
        cache.open(A, workload_type="LlmInference", timeout=PATIENCE).release()
        cache.access(A, workload_type="ImageGeneration")
        for name in "bc":
            cache.insert(fragment(name), content(name), workload_type="LlmInference")
        assert [each in cache for each in (A, B, C)] == [True, False, True]


def test_a_fragment_may_be_named_by_itself(tmp_path: Path) -> None:
    with file_cache(tmp_path, ram=100, nvme=100) as cache:
        cache.insert(A, content("a"))
        assert (A in cache, cache.tier_of(A)) == (True, RAM)
        assert [cache.demote(A), cache.promote(A), cache.remove(A)] == [NVME, RAM, True]


def read_at(cache: FragmentCache, offset: Any) -> None:
    with cache.open(A) as lease:
        lease.read_into(bytearray(10), offset=offset)


MISTAKES: dict[str, tuple[Callable[[Any], object], type[CacheError], str]] = {
    "text for a fragment": (
        lambda cache: cache.open("abc"),
        InvalidFragmentError,
        "an object of class str is no fragment; write Fragment.of(content), or Fragment(id=..., size=...).",
    ),
    "bytes for a fragment": (
        lambda cache: cache.insert(b"abc", b"abc"),
        InvalidFragmentError,
        "an object of class bytes is no fragment; write",
    ),
    "a number for an id": (
        lambda cache: 7 in cache,
        InvalidFragmentError,
        "an object of class int is no fragment's id; write sha256:<64 hexadecimal digits>.",
    ),
    "a workload type that there is none of": (
        lambda cache: cache.insert(A, content("a"), workload_type="Llm"),
        CacheConfigError,
        '"Llm" is no WorkloadType; write one of LlmInference, ImageGeneration, VideoGeneration.',
    ),
    "a timeout that is no time": (
        lambda cache: cache.open(A, timeout="1"),
        CacheConfigError,
        "timeout should be 0 seconds or more, not '1'.",
    ),
    "an offset before the first byte": (
        lambda cache: read_at(cache, -1),
        CacheConfigError,
        "offset should be a whole number of 0 or more, not -1.",
    ),
    "an offset in the middle of a byte": (
        lambda cache: read_at(cache, 0.5),
        CacheConfigError,
        "offset should be a whole number of 0 or more, not 0.5.",
    ),
    "a size for a configuration": (
        lambda _: FragmentCache(12 * GIB),  # type: ignore[arg-type]  # the mistake
        CacheConfigError,
        "an object of class int is no configuration; write CacheConfig().",
    ),
    "fields for a configuration": (
        lambda _: FragmentCache({}),  # type: ignore[arg-type]  # the mistake
        CacheConfigError,
        "an object of class dict is no configuration; write CacheConfig().",
    ),
}


@pytest.mark.parametrize(("mistake", "error", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_refused_in_a_sentence(
    tmp_path: Path, mistake: Callable[[Any], object], error: type[CacheError], sentence: str
) -> None:
    with file_cache(tmp_path, ram=300) as cache:
        cache.insert(A, content("a"))
        with pytest.raises(error, match=re.escape(sentence)):
            mistake(cache)


def test_the_defaults_are_the_references() -> None:
    assert CacheConfig().capacities == {VRAM: 10 * GIB, RAM: 32 * GIB, NVME: 0}


def test_within_an_arbiter_it_has_half_of_the_vram_and_all_of_the_ram() -> None:
    config = CacheConfig.within(vram_budget=21, ram_budget=64)
    assert config == CacheConfig(vram_bytes=10, ram_bytes=64)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ram_bytes": -1}, "ram_bytes should be a whole number of bytes, such as 8 * GIB, not -1."),
        ({"nvme_bytes": math.nan}, "nvme_bytes should be a whole number of bytes, such as 8 * GIB, not nan."),
        ({"parallel_transfers": 0}, "parallel_transfers is 0; write a whole number above 0."),
        ({"parallel_transfers": "8"}, "parallel_transfers is '8'; write a whole number above 0."),
        ({"room_timeout": "x"}, "room_timeout should be 0 seconds or more, not 'x'."),
        ({"room_timeout": math.nan}, "room_timeout should be 0 seconds or more, not nan."),
        ({"nvme_directory": 7}, "nvme_directory is 7; write a path."),
        ({"cdn_url": "cdn.example"}, 'cdn_url is "cdn.example"; write an address such as https://'),
        ({"nvme_bytes": 1}, "the NVMe tier has a size and no place: write nvme_directory."),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_a_sentence(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(CacheConfigError, match=re.escape(sentence)):
        FragmentCache(CacheConfig(**{"vram_bytes": 0, "ram_bytes": 0} | settings))  # type: ignore[arg-type]  # one of several types by name


def test_a_directory_may_be_named_by_its_path_as_text(tmp_path: Path) -> None:
    config = CacheConfig(vram_bytes=0, ram_bytes=0, nvme_bytes=100, nvme_directory=str(tmp_path / "nvme"))
    with FragmentCache(config) as cache:
        cache.insert(A, content("a"), tier=NVME)
        assert (tmp_path / "nvme" / "sha256" / A.id.removeprefix("sha256:")).read_bytes() == content("a")


@pytest.mark.parametrize(("name", "size"), [("", 1), ("a", 0), (7, 1), ("a", 1.5), ("a", math.nan), ("a", "1")])
def test_a_fragment_has_an_id_and_a_size(name: Any, size: Any) -> None:
    with pytest.raises(InvalidFragmentError):
        named(name, size)
