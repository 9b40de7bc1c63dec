"""Much work on the event loop without keeping everybody else from it. Imports the standard library only."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

AT_ONCE = 16
"""As many as writes may be under way: more would only wait for these."""


async def in_turns(look: Callable[[T], Awaitable[None]], things: Iterable[T]) -> None:
    """Looks at everything, at few at once, and lets the lease, probes and admission have their turn in between.

    One look begins at a time: many that write nothing would keep everybody else waiting as long as one that does all.
    """
    waiting, beginning = iter(things), asyncio.Lock()

    async def work() -> None:
        for thing in waiting:
            async with beginning:
                await asyncio.sleep(0)
            await look(thing)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
