"""The file `arbiter-run` that containers find in /run/arbiter/bin: a shell's first lines, then a zip archive.

The shell looks for a Python and says one sentence where there is none; Python runs the archive, which holds the client
and `arbiter.run` as they are in this installation.
"""

import io
import os
import zipfile
from pathlib import Path

import arbiter

NAME = "arbiter-run"

_PROLOGUE = b"""#!/bin/sh
# Runs an engine with the flags that its quality target means. What follows these lines is an archive for Python.
for python in python3 python; do
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then exec "$python" "$0" "$@"; fi
done
echo "arbiter-run: this image has no Python 3.8 or newer on its PATH; add one, or run the engine alone." >&2
exit 127
"""

_MAIN = "import sys\nfrom arbiter.run.main import main\nsys.exit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time that an archive can hold: the same sources make the same file."""


def wrapper() -> bytes:
    """The whole file."""
    root = Path(arbiter.__file__).parent
    sources = [root / "client.py", *sorted((root / "run").glob("*.py"))]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("__main__.py", _EPOCH), _MAIN)
        # Empty, since nothing else of the library is needed; there, since it hides packages of this name in images.
        file.writestr(zipfile.ZipInfo("arbiter/__init__.py", _EPOCH), "")
        for source in sources:
            file.writestr(zipfile.ZipInfo(str(source.relative_to(root.parent)), _EPOCH), source.read_bytes())
    return _PROLOGUE + archive.getvalue()


def install(directory: Path) -> None:
    """Puts it into `directory`, readable and executable for everybody, in one step: containers may be running it."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = directory / f".{NAME}.new"
    with temporary.open("wb") as file:
        os.fchmod(file.fileno(), 0o755)
        file.write(wrapper())
    temporary.replace(directory / NAME)
