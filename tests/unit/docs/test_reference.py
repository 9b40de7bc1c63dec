"""docs/reference/ is what the code says."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from arbiter_kube.api.crds import manifests
from hack.reference.pages import pages
from tests.support.snippets import ROOT

PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_in_step_with_the_code(name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text() == PAGES[name], "run: make reference"


def test_nothing_is_told_without_its_meaning() -> None:
    cells = [
        line.strip("| ").split(" | ") for page in PAGES.values() for line in page.splitlines() if line[:3] == "| `"
    ]
    assert len(cells) > 200
    assert [row[0] for row in cells if not row[-1].strip() or row[-1].startswith("`")] == []


def undescribed(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        if not field.get("description"):
            yield f"{path}.{name}"
        yield from undescribed(field.get("items", field), f"{path}.{name}")


def test_every_field_of_a_custom_resource_says_what_it_means() -> None:
    for text in manifests().values():
        crd = yaml.safe_load(text)
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        for part in {"spec", "status"} & set(schema):
            assert list(undescribed(schema[part], f"{crd['spec']['names']['kind']}.{part}")) == []
