import re
import shutil
from pathlib import Path

import pytest

from hack import image
from hack.cluster.paths import REPOSITORY


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the image is made of."""
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        kept = REPOSITORY / line.removeprefix("!")
        if kept.is_dir():
            shutil.copytree(kept, tmp_path / kept.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif kept.is_file():
            shutil.copy(kept, tmp_path)
    shutil.copy(REPOSITORY / "Containerfile", tmp_path)
    monkeypatch.setattr(image, "REPOSITORY", tmp_path)
    return tmp_path


def test_the_tag_is_another_for_each_content(sources: Path) -> None:
    tag = image.content_tag()
    assert re.fullmatch(r"\d+\.\d+\.\d+-[0-9a-f]{10}", tag)
    tags = {tag}
    for changed in (path for path in sorted(sources.rglob("*.py"))[:3]):
        changed.write_text(changed.read_text() + "#")
        tags.add(image.content_tag())
    for file in ("requirements/runtime.txt", "Containerfile", "pyproject.toml"):
        (sources / file).write_text("#")
        tags.add(image.content_tag())
    assert len(tags) == 7


def test_the_tag_stays_while_the_content_does(sources: Path) -> None:
    tag = image.content_tag()
    (sources / "arbiter" / "__pycache__").mkdir()
    (sources / "arbiter" / "__pycache__" / "demand.cpython-311.pyc").write_bytes(b"compiled")
    assert image.content_tag() == tag == image.content_tag()
