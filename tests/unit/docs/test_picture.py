"""The picture of docs/library.md is what the allocator does."""

from arbiter.units import GIB
from hack.library_picture import CAPACITY, draw, told
from tests.support.snippets import ROOT


def test_the_picture_is_in_step_with_the_code() -> None:
    kept = (ROOT / "docs" / "library.svg").read_text()
    assert draw(told()) == kept, "draw it anew: python -m hack.library_picture > docs/library.svg"


def test_the_story_uses_no_more_than_there_is() -> None:
    assert all(sum(moment.uses.values()) <= CAPACITY * GIB for moment in told().moments)
