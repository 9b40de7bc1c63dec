"""Fragments over HTTP, from a server that may break off, stall, lie or restart.

The one module of the core that needs more than the standard library: aiohttp. It is imported only where a cache has a
CDN. A transfer that breaks goes on where it stopped (RFC 9110, section 14); whether the parts belong together is for
the digest to say, so no validator is compared.
"""

import asyncio
import logging
import random
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from arbiter.cache.errors import CacheClosedError, DamagedFragmentError, FragmentUnavailableError, StoreError
from arbiter.cache.fragment import Fragment, digest_of
from arbiter.cache.store import Intake

_log = logging.getLogger(__name__)

_PIECE = 1 << 20
"""Bytes that are hashed and written at a time."""

_LONGEST_COUNT = 30
"""Digits; headers are anybody's text, and Python refuses to read a number of thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When to try again and when to give up; times in seconds.

    `attempts`: failures in a row without one byte more than ever before. `connect` and `stall`: how long a connection
    may take to come about, and how long it may bring nothing. `deadline`: for one fragment in all. The pause after
    failure n is random, up to `first_pause` * 2^n and `longest_pause` ("full jitter": M. Brooker, "Exponential Backoff
    And Jitter", AWS Architecture Blog, 2015); a server's Retry-After counts where it is longer, up to
    `longest_retry_after`.
    """

    attempts: int = 6
    connect: float = 10.0
    stall: float = 30.0
    deadline: float = 1800.0
    first_pause: float = 0.25
    longest_pause: float = 10.0
    longest_retry_after: float = 60.0


class _BrokenOffError(Exception):
    """This answer brings no more; another request may."""

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Cdn:
    """Fetches fragments from `<url>/sha256/<digest>`, in an event loop of its own thread, over shared connections.

    Raises:
        StoreError: there is no thread to be had.
    """

    def __init__(self, url: str, *, patience: Patience | None = None) -> None:
        self._url = url.rstrip("/")
        self._patience = patience or Patience()
        self._session: aiohttp.ClientSession | None = None
        self._gate = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fragment-cdn", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._loop.close()
            raise StoreError(f"nobody can fetch from {url}: {error}.") from error

    def fetch(self, fragment: Fragment, intake: Intake) -> None:
        """Pour the fragment into `intake`; called from any thread but the loop's own.

        Raises:
            FragmentUnavailableError: the server has no such fragment, or did not give it in time.
            CacheClosedError: the cache was closed meanwhile.
            StoreError: the tier cannot take the bytes, or there is no thread to be had.
        """
        with self._gate:
            if self._closed:
                raise CacheClosedError(f"the cache is closed; nothing is fetched from {self._url}.")
            coming = asyncio.run_coroutine_threadsafe(self._fetch(fragment, intake), self._loop)
        try:
            coming.result()
        except CancelledError as error:
            raise CacheClosedError(f"the cache was closed while fragment {fragment.id} was on its way.") from error
        except RuntimeError as error:
            raise StoreError(f"nobody can carry fragment {fragment.id}: {error}.") from error

    def close(self) -> None:
        """Break off what is under way."""
        with self._gate:  # what was begun before is on the loop now, so that `_shut` finds it
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _shut(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._session:
            await self._session.close()

    async def _fetch(self, fragment: Fragment, intake: Intake) -> None:
        url = f"{self._url}/sha256/{digest_of(fragment.id)}"
        deadline = self._loop.time() + self._patience.deadline
        failures, furthest = 0, 0
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._transfer(url, intake)
                return
            except (aiohttp.ClientError, TimeoutError, DamagedFragmentError, _BrokenOffError) as error:
                problem = error
            failures = 0 if intake.received > furthest else failures + 1
            furthest = max(furthest, intake.received)
            if isinstance(problem, DamagedFragmentError):
                intake.restart()
            is_late = self._loop.time() >= deadline
            reason = str(problem) or type(problem).__name__
            if is_late and isinstance(problem, TimeoutError):
                reason = f"it takes longer than {self._patience.deadline:g} s."
            if is_late or failures == self._patience.attempts:
                raise FragmentUnavailableError(
                    f"{url} could not be fetched, {furthest} of {fragment.size} bytes came: {reason}"
                ) from problem
            _log.info("%s is tried again, %d of %d bytes came: %s", url, intake.received, fragment.size, reason)
            await asyncio.sleep(self._pause(failures, problem))

    async def _transfer(self, url: str, intake: Intake) -> None:
        """One request, for what is missing."""
        offset = intake.received
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        async with self._connections().get(url, headers=headers) as answer:
            _check_answer(answer, intake)
            async for piece in answer.content.iter_chunked(_PIECE):
                await _write(intake, piece)  # at once: what is still in here when it breaks is lost
        if intake.received < intake.fragment.size:
            raise _BrokenOffError("the answer ended early.")
        intake.check()

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._patience.connect, sock_read=self._patience.stall
                ),
                trust_env=True,
            )
        return self._session

    def _pause(self, failures: int, problem: Exception) -> float:
        """Seconds until the next attempt."""
        patience = self._patience
        pause = random.uniform(0, min(patience.longest_pause, patience.first_pause * 2**failures))
        if isinstance(problem, _BrokenOffError):
            pause = max(pause, min(problem.retry_after, patience.longest_retry_after))
        return pause


async def _write(intake: Intake, piece: bytes) -> None:
    """Hash and write in a thread; who cancels this waits for the thread, whose file is closed next."""
    writing = asyncio.ensure_future(asyncio.to_thread(intake.write, piece))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise


def _check_answer(answer: aiohttp.ClientResponse, intake: Intake) -> None:
    """See that the body begins with the byte that is missing; where it begins with the first, start over.

    Raises:
        _BrokenOffError: it does neither, or is no success; another request may be.
        FragmentUnavailableError: another request would get the same answer.
    """
    if answer.status == 206 and _first_byte(answer) == intake.received:
        return
    if answer.status == 200:  # a server without ranges begins anew
        intake.restart()
        return
    if answer.status in {206, 416}:
        intake.restart()
        raise _BrokenOffError(f"asked for a part, the server answers {answer.status} with another.")
    if answer.status in {408, 425, 429} or answer.status >= 500:
        raise _BrokenOffError(f"the server answers {answer.status}.", retry_after=_retry_after(answer))
    raise FragmentUnavailableError(f"{answer.url} cannot be fetched: the server answers {answer.status}.")


def _first_byte(answer: aiohttp.ClientResponse) -> int | None:
    """From `Content-Range: bytes 100-199/200`."""
    unit, _, ranges = answer.headers.get("Content-Range", "").partition(" ")
    first = ranges.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() and len(first) <= _LONGEST_COUNT else None


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    """Seconds; the header has those or a date, and is anybody's text."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):  # no date, or one without a zone
        return 0.0
