"""Where things lie: the checkout, and the per-user cache of what is built once. Imports the standard library only."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def cache() -> Path:
    """Returns the cache directory, `${XDG_CACHE_HOME:-~/.cache}/arbiter`; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "arbiter"


def digest_of(files: Iterable[Path], *, root: Path, beside: str = "") -> str:
    """Returns ten digits that stand for the files' names below `root` and contents, and for what is said beside."""
    contents = {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    text = "\n".join([beside, *(f"{name} {content}" for name, content in sorted(contents.items()))])
    return hashlib.sha256(text.encode()).hexdigest()[:10]
