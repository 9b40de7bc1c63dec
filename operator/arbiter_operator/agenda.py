"""What is to be looked at later: retries, and moments at which time alone changes something. Pure, without a clock."""

from collections.abc import Callable, Hashable

Mark = Callable[[], None]


class Agenda:
    """One callback per key, at a time (any clock, in seconds)."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, tuple[float, Mark]] = {}

    def put(self, key: Hashable, when: float, mark: Mark) -> None:
        """Calls `mark` at the first `run` from `when` on, in place of what the key stood for before."""
        self._entries[key] = (when, mark)

    def run(self, now: float) -> None:
        """Calls what is due."""
        for key, (when, mark) in [*self._entries.items()]:
            if when <= now:
                del self._entries[key]
                mark()

    @property
    def next_at(self) -> float | None:
        """When something will be due; None for never."""
        return min((when for when, _ in self._entries.values()), default=None)
