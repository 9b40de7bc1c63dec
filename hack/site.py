"""The site of docs/: what mkdocs does to each page, and what is looked at once it is built.

mkdocs imports this file with packages of its own, so it imports the standard library only.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Protocol

_ROOT = Path(__file__).parents[1]
_SITE = _ROOT / "build" / "site"

_LINK = re.compile(r"(?<!!)\[(?P<label>[^\]]+)\]\((?P<target>\.\./[^)\s]+)\)")
_ELSEWHERE = re.compile(r"^(https?:)?//")
_IN_STYLES = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")
_LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}
_LINKS_THAT_LOAD = {
    "stylesheet",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "icon",
    "manifest",
    "modulepreload",
}


class _File(Protocol):
    @property
    def src_uri(self) -> str: ...


class Page(Protocol):
    """What is used of mkdocs' page."""

    @property
    def file(self) -> _File:
        """Where it lies below docs/."""


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Names files of the repository that are no pages, where the page in the repository links them."""
    folder = (_ROOT / "docs" / page.file.src_uri).parent

    def named(link: re.Match[str]) -> str:
        target = (folder / link["target"].partition("#")[0]).resolve()
        if target.is_relative_to(_ROOT / "docs"):
            return link[0]
        path = str(target.relative_to(_ROOT))
        return link["label"] if path in link["label"] else f"{link['label']} (`{path}`)"

    return _LINK.sub(named, markdown)


class _Loads(HTMLParser):
    """Collects what a browser asks other hosts for when it shows the page."""

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        address = given.get(_LOADING.get(tag, ""), "")
        if tag == "link" and _LINKS_THAT_LOAD & set(given.get("rel", "").split()):
            address = given.get("href", "")
        if _ELSEWHERE.match(address):
            self.elsewhere.append(address)


def loads_from_elsewhere(text: str) -> list[str]:
    """Addresses on other hosts that a page, or a style sheet, has the browser load; links to follow are none."""
    loads = _Loads()
    loads.feed(text)
    return loads.elsewhere + _IN_STYLES.findall(text)


def main() -> int:
    """Looks at the built site, and says where it is; 1 where a page would ask another host."""
    pages = sorted(path for path in _SITE.rglob("*") if path.suffix in (".html", ".css"))
    found = [
        f"{path.relative_to(_SITE)} loads {address}"
        for path in pages
        for address in loads_from_elsewhere(path.read_text())
    ]
    if found:
        print("\n".join(found), file=sys.stderr)
        return 1
    place = _SITE.relative_to(_ROOT)
    print(f"Wrote {place}/index.html. Its search needs a server: python3 -m http.server --bind 127.0.0.1 -d {place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
