"""One line per step with the seconds since the start, so that minutes of building are not minutes of silence."""

import sys
import time


class Progress:
    """Prints `[ 3.4s] text`, counted from when it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Prints one line at once, also into a pipe."""
        print(f"  [{time.monotonic() - self._start:5.1f}s] {text}", file=sys.stdout, flush=True)
