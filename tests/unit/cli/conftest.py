"""Manifests in files, and the answers of `arbiter plan` to them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from arbiter_cli.main import main
from tests.unit.cli.builders import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes objects (or text) to a file and gives its name."""

    def written(*objects: object, name: str = "m.yaml") -> str:
        path = tmp_path / name
        text = objects[0] if isinstance(objects[0], str) else yaml.safe_dump_all(objects)
        path.write_text(str(text))
        return str(path)

    return written


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Runs `plan -o json` and gives its answer, with the exit code under "code"."""

    def run(*arguments: str) -> dict[str, Any]:
        code = main(["plan", "-o", "json", "-f", *arguments])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer | {"code": code}

    return run
