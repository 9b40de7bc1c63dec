"""Looks at things by key: at one thing never twice at a time, at different ones at once, again later where one failed.

This is the work queue of controllers. Imports the agenda, the writer's bound and the client's back-off.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable

from arbiter_kube.client.backoff import Backoff
from arbiter_operator.agenda import Agenda
from arbiter_operator.writer import CONCURRENT_WRITES

Key = tuple[int, Hashable]
"""How urgent a kind of things is, the least number first, and which of them."""

Look = Callable[[], Awaitable[bool]]
"""Looks at the thing as it is by then; whether everything that followed could be done."""


class WorkQueue:
    """What is put while it is looked at is looked at once more afterwards: whatever the last state is, it counts.

    A look that fails is repeated after a back-off of its own key, and keeps no other key waiting.
    """

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._looks: dict[Key, Look] = {}
        self._ready: asyncio.PriorityQueue[tuple[int, int, Key]] = asyncio.PriorityQueue()
        self._arrivals = itertools.count()
        self._under_way: set[Key] = set()
        self._backoffs: defaultdict[Key, Backoff] = defaultdict(Backoff)
        self._beginning = asyncio.Lock()

    def put(self, key: Key, look: Look) -> None:
        """Has the thing looked at, once however often it is put before."""
        is_new = key not in self._looks
        self._looks[key] = look
        if is_new and key not in self._under_way:
            self._line_up(key)

    async def run(self) -> None:
        """Looks for ever; cancelled, it breaks off what is under way and begins nothing more."""
        async with asyncio.TaskGroup() as workers:
            # More would only wait for these.
            for _ in range(CONCURRENT_WRITES):
                workers.create_task(self._work())

    async def _work(self) -> None:
        while True:
            # One look begins per turn of the event loop: many that write nothing would keep the lease, probes and
            # admission waiting as long as one that does all.
            async with self._beginning:
                await asyncio.sleep(0)
                *_, key = await self._ready.get()
            await self._look(key)

    async def _look(self, key: Key) -> None:
        look = self._looks.pop(key)
        self._under_way.add(key)
        try:
            if await look():
                self._backoffs.pop(key, None)
            else:
                self._agenda.put(key, self._backoffs[key].next(), lambda: self.put(key, look))
        finally:
            self._under_way.discard(key)
            if key in self._looks:
                self._line_up(key)

    def _line_up(self, key: Key) -> None:
        self._ready.put_nowait((key[0], next(self._arrivals), key))
