"""The tests that docs/node.md names for its traps are there."""

import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[2]
FOLDERS = {
    "unit": "unit/deviceplugin",
    "gRPC": "component/deviceplugin",
    "stub": "component/nvml",
    "cluster": "cluster",
}


def named(page: str) -> Iterator[Path]:
    """The files that the table names: a layer holds until the next one, and a name with a folder is below `unit`."""
    _, _, table = page.partition("| trap | test |")
    for row in table.splitlines():
        folder = ""
        for layer, name in re.findall(rf"({'|'.join(FOLDERS)}) (?=`)|`([a-z_/]+)`", row):
            folder = FOLDERS.get(layer, folder)
            if name:
                yield TESTS / ("unit" if "/" in name else folder) / f"{name}.py"


def test_each_file_that_is_named_for_a_trap_is_there() -> None:
    files = set(named((TESTS.parent / "docs" / "node.md").read_text()))

    assert len(files) > 25
    assert [path for path in sorted(files) if not path.is_file()] == []
