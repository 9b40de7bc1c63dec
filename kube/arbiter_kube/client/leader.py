"""One of several replicas leads: whoever holds a Lease does the work, the others wait for it.

The rules are client-go's: a lease counts as given up when its record has not changed for its duration by our own
clock, never by comparing clocks of two machines; a leader stops well before others may follow it.
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from arbiter_kube.api.objects import Lease, LeaseSpec, ObjectKey
from arbiter_kube.api.resources import LEASES
from arbiter_kube.client.client import KubeClient
from arbiter_kube.client.errors import Conflict, KubeError, NotFound

_log = logging.getLogger(__name__)


def unique_identity() -> str:
    """A name for this process among the replicas; a host may run two, and a restarted process is another one."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"


class Leadership:
    """Keeps `lease` for `identity` and works while it holds it."""

    def __init__(
        self,
        client: KubeClient,
        lease: ObjectKey,
        *,
        identity: str,
        duration: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`duration`: seconds after the last renewal in which nobody else may lead; `clock`: seconds, never set back.

        The leader stops after 0.6 of it, and everybody looks every 0.2, so that a take-over takes at most 1.2 of it.
        """
        self._client = client
        self._key = lease
        self._identity = identity
        self._duration = duration
        self._deadline = 0.6 * duration
        self._interval = 0.2 * duration
        self._clock = clock
        self._seen: _Seen | None = None
        self._held_until = 0.0

    @property
    def is_leading(self) -> bool:
        """Whether this process is the one that works."""
        return self._clock() < self._held_until

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` whenever, and as long as, this process leads; gives the lease back when it is cancelled.

        What `work` raises ends it.
        """
        try:
            while True:
                await self._take()
                if self.is_leading:
                    _log.info("leading lease=%s identity=%s", self._key, self._identity)
                    await self._lead(asyncio.ensure_future(work()))
                    _log.warning("no longer leading lease=%s identity=%s", self._key, self._identity)
                await asyncio.sleep(self._interval)
        finally:
            if self.is_leading:
                await self._give_back()

    async def _lead(self, work: "asyncio.Future[None]") -> None:
        try:
            while self.is_leading and not work.done():
                await asyncio.wait([work], timeout=min(self._interval, self._held_until - self._clock()))
                if not work.done():
                    await self._take()
        finally:
            ended = work.done()
            work.cancel()
            await asyncio.wait([work])
        if ended:
            await work

    async def _take(self) -> None:
        """Takes or renews the lease where that may be done; without an answer we lead on until the deadline."""
        try:
            # Not wait_for: before Python 3.12 it hides a cancellation that comes together with the answer.
            async with asyncio.timeout(self._interval):
                await self._take_once()
        except (KubeError, TimeoutError) as error:
            _log.warning("lease not written lease=%s error=%s", self._key, str(error) or "no answer")

    async def _take_once(self) -> None:
        asked_at = self._clock()
        try:
            seen = await self._look()
            if seen is None:
                await self._create()
            elif seen.may_be_taken(self._identity, self._clock()):
                await self._write(seen.lease, self._record(seen.lease.spec))
            else:
                self._held_until = 0.0
                return
        except Conflict:  # somebody else was quicker
            self._held_until = 0.0
        else:
            self._held_until = asked_at + self._deadline

    async def _look(self) -> "_Seen | None":
        try:
            lease = await self._client.get(LEASES, self._key.name, namespace=self._key.namespace)
        except NotFound:
            return None
        if self._seen is None or self._seen.lease.spec != lease.spec:
            self._seen = _Seen(lease, since=self._clock())
        else:
            self._seen = replace(self._seen, lease=lease)
        return self._seen

    async def _create(self) -> None:
        body = {"metadata": {"name": self._key.name}, "spec": self._record(LeaseSpec())}
        await self._client.create(LEASES, body, namespace=self._key.namespace)

    def _record(self, before: LeaseSpec) -> dict[str, object]:
        """The lease as ours, renewed now."""
        now = _micro_time(datetime.now(UTC))
        renewed = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._duration,
            "renewTime": now,
        }
        if before.holder_identity == self._identity:
            return renewed
        taken_over = before.holder_identity is not None
        return renewed | {"acquireTime": now, "leaseTransitions": before.lease_transitions + taken_over}

    async def _give_back(self) -> None:
        """So that nobody has to wait until it ran out."""
        self._held_until = 0.0
        with suppress(KubeError, TimeoutError):
            async with asyncio.timeout(self._interval):
                seen = await self._look()
                if seen is not None and seen.lease.spec.holder_identity == self._identity:
                    await self._write(seen.lease, {"holderIdentity": ""})

    async def _write(self, lease: Lease, spec: dict[str, object]) -> None:
        """Changes that very version of the lease.

        Raises:
            Conflict: it is another one by now.
        """
        await self._client.patch(
            LEASES,
            self._key.name,
            {"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": spec},
            namespace=self._key.namespace,
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """A lease, and since when (seconds of our own clock) its record has been what it is."""

    lease: Lease
    since: float

    def may_be_taken(self, identity: str, now: float) -> bool:
        spec = self.lease.spec
        return spec.holder_identity in (None, "", identity) or now >= self.since + (spec.lease_duration_seconds or 0)


def _micro_time(moment: datetime) -> str:
    # Always with six digits: the API server reads no MicroTime without them.
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
