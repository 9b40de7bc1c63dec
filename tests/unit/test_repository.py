"""What must hold of the repository itself."""

import operator
import sys
from pathlib import Path

from hack.cluster.paths import REPOSITORY


def test_the_operator_folder_does_not_shadow_the_standard_library() -> None:
    assert not (REPOSITORY / "operator" / "__init__.py").exists()
    assert Path(operator.__file__).is_relative_to(Path(sys.base_prefix))


def test_ci_runs_what_the_readme_tells_a_newcomer_to_run() -> None:
    first_screen = (REPOSITORY / "README.md").read_text().splitlines()[:30]
    commands = [line.split("#")[0].strip() for line in first_screen if line.startswith("make ")]
    assert commands == ["make demo", "make test"]
    assert (REPOSITORY / ".ci" / "run").read_text().splitlines()[-1] == "exec make test"
