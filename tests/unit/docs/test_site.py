"""Links lead somewhere, and the built site asks no other host for anything."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from hack.site import loads_from_elsewhere, on_page_markdown
from tests.support.snippets import ROOT

TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Those of its headings, as mkdocs and forges make them of plain words."""
    heads = re.findall(r"^#+ (.*)$", CODE.sub(lambda code: code[0].strip("`"), page.read_text()), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in heads}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in LINK.finditer(CODE.sub("", page.read_text())):
        target = page.parent / link["path"] if link["path"] else page
        assert target.exists(), link[0]
        if link["anchor"]:
            assert link["anchor"] in anchors(target), link[0]


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert listed == pages, "list it under nav: in mkdocs.yml"


@dataclass
class File:
    src_uri: str


@dataclass
class OnePage:
    file: File


LINKS = {
    "a file that is no page is named": (
        "engines.md",
        "see [the client](../arbiter/client.py).",
        "see the client (`arbiter/client.py`).",
    ),
    "a label that names it is enough": ("engines.md", "[`crds`](../crds)", "`crds`"),
    "from a folder too": ("reference/values.md", "[it](../../crds)", "it (`crds`)"),
    "another page stays a link": (
        "reference/values.md",
        "[install](../install.md#values)",
        "[install](../install.md#values)",
    ),
    "a picture stays": ("index.md", "![a](../docs/walk.svg)", "![a](../docs/walk.svg)"),
}


@pytest.mark.parametrize(("page", "markdown", "shown"), LINKS.values(), ids=LINKS)
def test_links_out_of_the_site(page: str, markdown: str, shown: str) -> None:
    assert on_page_markdown(markdown, page=OnePage(File(page))) == shown


LOADS = {
    "a script": ('<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
    "a picture without scheme": ('<img src="//cdn.example/x.png">', ["//cdn.example/x.png"]),
    "a style sheet": ('<link rel="stylesheet" href="https://fonts.example/css">', ["https://fonts.example/css"]),
    "a connection made early": ('<link rel="preconnect" href="https://fonts.example">', ["https://fonts.example"]),
    "a font of a style": ("@font-face { src: url('https://fonts.example/a.woff') }", ["https://fonts.example/a.woff"]),
    "an import of a style": ('@import "https://fonts.example/b.css";', ["https://fonts.example/b.css"]),
    "a style beside a tag": ('<p style="background: url(https://x.example/p)">', ["https://x.example/p"]),
    "nothing: a link to follow": ('<a href="https://example.com">there</a>', []),
    "nothing: files of its own": ('<script src="assets/x.js"></script><img src="walk.svg">', []),
}


@pytest.mark.parametrize(("text", "addresses"), LOADS.values(), ids=LOADS)
def test_what_a_page_loads_from_elsewhere(text: str, addresses: list[str]) -> None:
    assert loads_from_elsewhere(text) == addresses
