"""Where things lie: the checkout, and the per-user cache of what is built once. Imports the standard library only."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def cache() -> Path:
    """Returns the cache directory, `${XDG_CACHE_HOME:-~/.cache}/arbiter`; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "arbiter"
