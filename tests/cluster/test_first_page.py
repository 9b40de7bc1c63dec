"""Somebody who has never seen Arbiter follows the docs' first page, word by word, in a checkout of their own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster.paths import REPOSITORY
from tests.support.typed import missing, printed, script, steps

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

PAGE = steps(REPOSITORY / "docs" / "index.md")
NOT_COPIED = (".git", ".venv", ".cluster", "build", ".*_cache", ".hypothesis", "__pycache__")


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """The repository elsewhere, so that a cluster that is up in this one stays as it is; its packages are shared."""
    place = tmp_path / "arbiter"
    shutil.copytree(REPOSITORY, place, ignore=shutil.ignore_patterns(*NOT_COPIED))
    (place / ".venv").symlink_to(REPOSITORY / ".venv")
    yield place
    subprocess.run(["make", "cluster-down"], cwd=place, check=False, timeout=120)


def test_the_first_page_does_what_it_says(checkout: Path) -> None:
    shell = subprocess.Popen(
        ["bash", "-c", script(PAGE)],
        cwd=checkout,
        env={name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = shell.communicate(timeout=840)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGTERM)
        output, _ = shell.communicate()
    told = printed(output)
    for step, said in zip(PAGE, told, strict=False):
        assert missing(step.output, said) == [], f"index.md, line {step.line}, printed:\n{said}"
    assert shell.returncode == 0, f"index.md, line {PAGE[len(told) - 1].line}, failed:\n{told[-1]}"
