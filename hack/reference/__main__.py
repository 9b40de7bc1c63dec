"""Entry point of `python -m hack.reference`: writes every page. Imports the pages."""

from hack.cluster.paths import REPOSITORY
from hack.reference.pages import pages

DIRECTORY = REPOSITORY / "docs" / "reference"

DIRECTORY.mkdir(exist_ok=True)
for name, text in pages().items():
    (DIRECTORY / name).write_text(text)
    print(f"wrote {(DIRECTORY / name).relative_to(REPOSITORY)}")
