"""The examples of the pages under docs/ run, and print what the page says that they print."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import FakeAgent
from tests.support.snippets import ROOT, Section, run_section, sections

SECTIONS = [
    pytest.param(page, section, id=f"{page.stem}: {section.title}")
    for page in sorted((ROOT / "docs").glob("*.md"))
    for section in sections(page)
    if section.runs
]


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a container that Arbiter gave memory: a second target follows the first acknowledgement."""
    with tempfile.TemporaryDirectory() as directory:  # a socket's path must be short
        monkeypatch.setenv("ARBITER_DIR", directory)
        agent = FakeAgent(Path(directory))
        agent.publish(1, quality=1.0, vramBytes=10 << 30)
        agent.start()
        is_over = threading.Event()
        follows = threading.Thread(target=_publish_after_acknowledgement, args=[agent, is_over])
        follows.start()
        yield
        is_over.set()
        follows.join()
        agent.stop()


def _publish_after_acknowledgement(agent: FakeAgent, is_over: threading.Event) -> None:
    while not agent.applied:
        if is_over.wait(0.01):
            return
    agent.publish(2)


@pytest.mark.usefixtures("container")
@pytest.mark.parametrize(("page", "section"), SECTIONS)
def test_the_examples_print_what_the_page_says(
    page: Path, section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_section(section, page)
