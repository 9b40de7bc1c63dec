"""Which of the binaries in the cache count."""

import os
from pathlib import Path

import pytest

from hack.cluster import binaries
from hack.cluster.progress import Progress

A_COMPILER = """#!/bin/sh
case $1 in
  env) echo go1.26.0 ;;
  build) while [ "$1" != -o ]; do shift; done; touch "$2"; basename "$2" >> "$(dirname "$0")/built" ;;
esac
"""


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The list of what is built, into an empty cache and by a compiler that is quick."""
    (tmp_path / "go").write_text(A_COMPILER)
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "built"


def test_what_is_there_is_not_built_again(built: Path) -> None:
    for _ in range(2):
        binaries.ensure(("etcd", "helm"), Progress())

    assert built.read_text().split() == [".etcd.unfinished", ".helm.unfinished"]


def test_another_version_of_one_module_builds_that_one_anew(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binaries.ensure(("etcd", "helm"), Progress())
    monkeypatch.setattr(binaries, "_HELM_VERSION", "3.99.0")
    binaries.ensure(("etcd", "helm"), Progress())

    assert built.read_text().split() == [".etcd.unfinished", ".helm.unfinished", ".helm.unfinished"]
