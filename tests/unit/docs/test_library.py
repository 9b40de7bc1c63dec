"""The examples of docs/library.md run, and print what the page says that they print."""

from pathlib import Path

import pytest

from tests.support.snippets import ROOT, Section, run_section, sections

PAGE = ROOT / "docs" / "library.md"
SECTIONS = [section for section in sections(PAGE) if section.runs]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_the_examples_print_what_the_page_says(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_section(section, PAGE)
