"""The list of slices that the kubelet is shown: sent whole, and only when it changes."""

import asyncio
from collections.abc import AsyncGenerator

from arbiter_deviceplugin.slices import Slice


class Offer:
    """What is on offer now, for at most one listener: a newer one ends the one before it."""

    def __init__(self) -> None:
        self._slices: tuple[Slice, ...] = ()
        self._changed = asyncio.Event()
        self._listener: object | None = None

    @property
    def is_watched(self) -> bool:
        """Whether somebody listens."""
        return self._listener is not None

    def publish(self, slices: tuple[Slice, ...]) -> None:
        """Replaces the list; the same list again is not told."""
        if slices != self._slices:
            self._slices = slices
            self._wake()

    async def changes(self) -> AsyncGenerator[tuple[Slice, ...]]:
        """The list now, then whenever it changes."""
        me = self._listener = object()
        self._wake()
        told: tuple[Slice, ...] | None = None
        try:
            while self._listener is me:
                if told != self._slices:
                    told = self._slices
                    yield told
                    continue
                await self._changed.wait()
        finally:
            if self._listener is me:
                self._listener = None

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
