"""What a reader holds while it uses a fragment. Imports the standard library only."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from arbiter.cache.arguments import offset_of
from arbiter.cache.fragment import CacheTier, Fragment
from arbiter.cache.store import Content


class Lease:
    """One reader's hold on one fragment: the copy stays in its tier until `release`, or the end of the `with` block.

    A view outlives its lease safely: its bytes stay mapped, but the tier no longer counts them.
    A lease that is dropped without being released keeps its copy there for ever, which a ResourceWarning says.
    """

    __slots__ = ("_content", "_on_release", "found_in", "fragment", "held", "tier")

    def __init__(
        self,
        *,
        fragment: Fragment,
        tier: CacheTier,
        found_in: CacheTier,
        content: Content,
        on_release: Callable[["Lease"], None],
    ) -> None:
        self.fragment = fragment
        self.tier = tier
        """Where the leased copy lies."""
        self.found_in = found_in
        """The highest tier that had the fragment when it was asked for; CDN if none had."""
        self.held = True
        """Until it is released."""
        self._content = content
        self._on_release = on_release

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        # It cannot be released here: the collector comes in the midst of calls that hold the cache's lock.
        if self.held:
            warnings.warn(
                f"a lease on fragment {self.fragment.id} was dropped and never released: it stays in {self.tier}.",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    @property
    def path(self) -> Path | None:
        """A file of exactly these bytes, for another process to map while this lease is held; None without one."""
        return self._content.path

    @property
    def view(self) -> memoryview:
        """All bytes, mapped into this process, read-only.

        Raises:
            NoBytesError: the host cannot map this tier.
        """
        return self._content.view()

    def read_into(self, buffer: bytearray | memoryview, *, offset: int = 0) -> int:
        """Copy bytes from `offset` on into the buffer; how many, 0 at the fragment's end.

        The fastest way to stream a large fragment once: a mapping pays for every page that it touches first.

        Raises:
            NoBytesError: the tier only accounts for its fragments.
            StoreError: the bytes cannot be read.
            CacheConfigError: the offset is no whole number, or negative.
        """
        return self._content.read_into(buffer, min(offset_of(offset), self.fragment.size))

    def release(self) -> None:
        """Let go; a second time does nothing."""
        self._on_release(self)
