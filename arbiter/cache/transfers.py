"""What a flight does: find a fragment, fetch it if no tier has it, and bring it to the tier that was asked for.

Runs in the flights' threads, one job per fragment at a time. Imports the standard library only.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arbiter.cache.errors import DamagedFragmentError, FragmentUnavailableError, InvalidFragmentError
from arbiter.cache.flights import Landing
from arbiter.cache.fragment import BytesLike, CacheTier, Fragment, FragmentId
from arbiter.cache.index import CacheIndex
from arbiter.cache.mover import NO_ROOM, Mover
from arbiter.cache.store import Intake, Source, TierStore, Writer

_log = logging.getLogger(__name__)

HOST_TIERS = (CacheTier.RAM, CacheTier.NVME)
"""The tiers whose bytes the host can map."""

_ATTEMPTS = 3
"""How often a fragment may turn out damaged on this machine before its reader is told."""


@dataclass(slots=True)
class TransferCounts:
    """Written and read under the cache's lock."""

    downloads: int = 0
    downloaded_bytes: int = 0
    damaged: int = 0


class Transfers:
    """The jobs on one cache's index, stores and source; `room_timeout` as in `CacheConfig`."""

    def __init__(
        self,
        *,
        index: CacheIndex,
        mover: Mover,
        stores: Mapping[CacheTier, TierStore],
        source: Source | None,
        lock: threading.Lock,
        room_timeout: float,
    ) -> None:
        self.counts = TransferCounts()
        self._index = index
        self._mover = mover
        self._stores = stores
        self._source = source
        self._lock = lock
        self._room_timeout = room_timeout
        self._filling = [tier for tier in reversed(HOST_TIERS) if tier in stores and stores[tier].holds_bytes]

    def bring(self, fragment: Fragment, *, serving: Sequence[CacheTier]) -> Landing:
        """A copy in one of the tiers in `serving`, made in the last of them; a lower one where that fails."""
        found = self._find(fragment, serving=serving)
        if found.tier in serving:
            return found
        try:
            self._mover.copy(fragment, found.content, target=serving[-1])
            landing = self._land(fragment, serving[-1])
        except (*NO_ROOM, DamagedFragmentError) as problem:
            if found.tier in HOST_TIERS:
                _log.info("fragment %s stays in %s: %s", fragment.id, found.tier, problem)
                return found
            self._release(fragment.id, found.tier)
            raise
        except BaseException:
            self._release(fragment.id, found.tier)
            raise
        self._release(fragment.id, found.tier)
        return landing

    def lift(self, fragment: Fragment, *, into: CacheTier) -> Landing:
        """A copy in this very tier, made from one below; raises what `Mover.write` does."""
        if self._stores[into].holds_bytes:
            found = self._find(fragment, serving=(into,))
            try:
                self._mover.copy(fragment, found.content, target=into)
            finally:
                self._release(fragment.id, found.tier)
        else:
            self._mover.write(fragment, into, _pour_nothing)
        return self._land(fragment, into)

    def take_in(self, fragment: Fragment, content: BytesLike | None, *, into: CacheTier) -> Landing:
        """A copy in this very tier, of bytes that somebody brought; raises what `Mover.write` and `Intake` do."""
        if content is None or not self._stores[into].holds_bytes:
            self._mover.write(fragment, into, _pour_nothing)
        else:

            def pour(writer: Writer) -> None:
                intake = Intake(fragment, writer)
                intake.write(content)
                intake.check()

            self._mover.write(fragment, into, pour)
        return self._land(fragment, into)

    def _find(self, fragment: Fragment, *, serving: Sequence[CacheTier]) -> Landing:
        """A readable copy, fetched if there is none; damaged ones are thrown away and fetched again.

        Raises:
            InvalidFragmentError: the fragment has another size, and that is right.
            FragmentUnavailableError: it cannot be had.
        """
        for _ in range(_ATTEMPTS):
            known, tier = self._lease_copy(fragment, serving=serving) or (fragment, self._download(fragment))
            try:
                landing = self._land(known, tier)
            except DamagedFragmentError:
                continue
            if known == fragment:
                return landing
            self._release(fragment.id, tier)
            raise InvalidFragmentError(f"fragment {fragment.id} has {known.size} bytes, not {fragment.size}.")
        raise FragmentUnavailableError(
            f"fragment {fragment.id} was damaged on this machine {_ATTEMPTS} times in a row."
        )

    def _lease_copy(self, fragment: Fragment, *, serving: Sequence[CacheTier]) -> tuple[Fragment, CacheTier] | None:
        """The fragment as it lies here, which may be shorter than it should be, and the tier."""
        with self._lock:
            known = self._index.fragment(fragment.id)
            copies = self._index.copies(fragment.id)
            good = [tier for tier in copies if tier in serving]
            readable = [tier for tier in copies if self._stores[tier].holds_bytes]
            tier = next(iter(good + readable), None)
            if known is None or tier is None:
                return None
            self._index.lease(fragment.id, tier)
            return known, tier

    def _download(self, fragment: Fragment) -> CacheTier:
        """Fetch it into the lowest tier that has room, so that those above stay as they are; it is leased there.

        Raises:
            FragmentUnavailableError: there is no source, it has no such fragment, or no tier has room.
        """
        source = self._source
        if source is None:
            raise FragmentUnavailableError(
                f"no tier holds fragment {fragment.id}, and there is no CDN to fetch it from."
            )

        def pour(writer: Writer) -> None:
            intake = Intake(fragment, writer)
            source.fetch(fragment, intake)
            intake.check()

        reason: Exception | str = "no tier keeps bytes."
        for tier in self._filling:
            patience = self._room_timeout if tier is self._filling[-1] else 0.0
            try:
                self._mover.write(fragment, tier, pour, patience=patience)
            except NO_ROOM as problem:
                _log.info("fragment %s is not fetched into %s: %s", fragment.id, tier, problem)
                reason = problem
                continue
            with self._lock:
                self.counts.downloads += 1
                self.counts.downloaded_bytes += fragment.size
            return tier
        raise FragmentUnavailableError(f"fragment {fragment.id} cannot be kept: {reason}")

    def _land(self, fragment: Fragment, tier: CacheTier) -> Landing:
        """Open a leased copy; where that fails the lease is given back, and a damaged copy thrown away."""
        try:
            return Landing(tier=tier, content=self._mover.open(fragment, tier))
        except DamagedFragmentError as problem:
            _log.warning("a damaged fragment is thrown away: %s", problem)
            with self._lock:
                self.counts.damaged += 1
            self._mover.discard(fragment.id, tier)
            raise
        except BaseException:
            self._release(fragment.id, tier)
            raise

    def _release(self, fragment: FragmentId, tier: CacheTier) -> None:
        with self._lock:
            self._mover.release(fragment, tier)


def _pour_nothing(_: Writer) -> None:
    """The tier only accounts for the bytes."""
