"""The pictures of docs/library.md and docs/quality.md are what allocator and solver do."""

import pytest

from arbiter.units import GIB
from hack.library_picture import CAPACITY, draw, told
from hack.quality_pictures import PICTURES, moments
from tests.support.snippets import ROOT


def test_the_picture_is_in_step_with_the_code() -> None:
    kept = (ROOT / "docs" / "library.svg").read_text()
    assert draw(told()) == kept, "draw it anew: python -m hack.library_picture > docs/library.svg"


def test_the_story_uses_no_more_than_there_is() -> None:
    assert all(sum(moment.uses.values()) <= CAPACITY * GIB for moment in told().moments)


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_of_quality_are_in_step_with_the_code(name: str) -> None:
    kept = (ROOT / "docs" / name).read_text()
    assert PICTURES[name]() == kept, "draw it anew: python -m hack.quality_pictures"


def test_the_page_tells_the_targets_that_the_picture_shows() -> None:
    page = (ROOT / "docs" / "quality.md").read_text()
    table = page.partition("## Over time")[2].partition("## ")[0]
    for moment in moments():
        for name, target in moment.told.items():
            assert f"{name} {target.quality:.3f}" in table
