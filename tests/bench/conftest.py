"""Keeps benchmarks out of ordinary test runs, which do not load the plugin that times them (`make bench` does)."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignores what is here unless benchmarks were asked for."""
    return None if config.pluginmanager.hasplugin("benchmark") else True
