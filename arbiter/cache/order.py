"""In which order one tier gives its fragments up. Pure; imports the standard library only.

The rule is segmented LRU (R. Karedla, J. S. Love, B. G. Wherry, "Caching strategies to improve disk system
performance", IEEE Computer 27(3), 1994): what came once waits on probation, a second use protects it, and the
protected part is bounded, its least recently used going back to probation. So one pass over many fragments pushes out
other fragments that were used once, not those in use. It is applied to the fragments of one system first; those that
both systems use go last.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from arbiter.cache.fragment import FragmentId

PROTECTED_PERCENT = 80
"""Share of a tier's capacity that the protected part may take."""


@dataclass(slots=True, kw_only=True)
class _Standing:
    size: int
    shared: bool
    protected: bool = False


class EvictionOrder:
    """The resident fragments of one tier of `capacity` bytes; iterating gives the first to go first."""

    def __init__(self, *, capacity: int) -> None:
        self._protectable = capacity * PROTECTED_PERCENT // 100
        self._protected_bytes = 0
        self._standings: dict[FragmentId, _Standing] = {}
        # Keyed by (shared, protected); each from the least to the most recently used.
        self._segments: dict[tuple[bool, bool], OrderedDict[FragmentId, None]] = {
            (shared, protected): OrderedDict() for shared in (False, True) for protected in (False, True)
        }

    def __iter__(self) -> Iterator[FragmentId]:
        for segment in self._segments.values():
            yield from segment

    def __len__(self) -> int:
        return len(self._standings)

    def add(self, fragment: FragmentId, *, size: int, shared: bool) -> None:
        """A fragment of `size` bytes that has just come; it starts on probation."""
        self._standings[fragment] = _Standing(size=size, shared=shared)
        self._segments[shared, False][fragment] = None

    def touch(self, fragment: FragmentId) -> None:
        """It was used again."""
        standing = self._standings[fragment]
        segment = self._segments[standing.shared, standing.protected]
        if standing.protected or standing.size > self._protectable:
            segment.move_to_end(fragment)
            return
        del segment[fragment]
        self._segments[standing.shared, True][fragment] = None
        standing.protected = True
        self._protected_bytes += standing.size
        while self._protected_bytes > self._protectable:
            self._unprotect()

    def share(self, fragment: FragmentId) -> None:
        """Both systems use it from now on."""
        standing = self._standings[fragment]
        if not standing.shared:
            del self._segments[False, standing.protected][fragment]
            self._segments[True, standing.protected][fragment] = None
            standing.shared = True

    def discard(self, fragment: FragmentId) -> None:
        """It has left the tier."""
        standing = self._standings.pop(fragment)
        del self._segments[standing.shared, standing.protected][fragment]
        if standing.protected:
            self._protected_bytes -= standing.size

    def _unprotect(self) -> None:
        shared = not self._segments[False, True]
        fragment, _ = self._segments[shared, True].popitem(last=False)
        self._segments[shared, False][fragment] = None
        standing = self._standings[fragment]
        standing.protected = False
        self._protected_bytes -= standing.size
