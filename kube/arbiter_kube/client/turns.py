"""Long work that shares one event loop with short: it gives way after every half a millisecond."""

import asyncio
import time

TURN = 0.0005
"""Seconds that others wait at most for each step of theirs."""


class Turns:
    """Call `give_way` after every small part of the work."""

    def __init__(self) -> None:
        self._until = time.monotonic() + TURN

    async def give_way(self) -> None:
        """Lets others have a turn, once this one has lasted."""
        if time.monotonic() >= self._until:
            await asyncio.sleep(0)
            self._until = time.monotonic() + TURN
