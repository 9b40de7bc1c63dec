"""The directories of the node's containers, by their allocations: made, told, and removed in the end.

Thin I/O around `directory`. Imports the ledger's allocations and what a container is told.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from arbiter.ids import PodUid
from arbiter_deviceplugin.allocations import Allocation
from arbiter_deviceplugin.directory import Applied, ContainerDirectory
from arbiter_deviceplugin.target import Told

_log = logging.getLogger(__name__)


class Directories:
    """Those below `root` that are served. `acknowledge` takes what the container of a pod says, and saves it."""

    def __init__(self, root: Path, *, acknowledge: Callable[[PodUid, Applied], Awaitable[None]]) -> None:
        self._root = root
        self._acknowledge = acknowledge
        self._served: dict[str, ContainerDirectory] = {}

    def serve(self, allocations: Iterable[Allocation]) -> None:
        """Takes these on; `open_all` makes them."""
        for allocation in allocations:
            self._of(allocation)

    async def open(self, allocation: Allocation) -> None:
        """Serves the directory of this allocation, and makes what is missing of it.

        Raises:
            OSError: it cannot be made.
        """
        await self._of(allocation).open()

    async def open_all(self) -> None:
        """Makes again what somebody removed."""
        for name in tuple(self._served):
            directory = self._served.get(name)
            if directory is None:
                continue  # its container ended while others were made
            try:
                await directory.open()
            except OSError as error:
                _log.warning("directory not made directory=%s error=%s", name, error)

    async def tell(self, allocation: Allocation, told: Told) -> None:
        """Tells the container of this allocation, if it is served.

        Raises:
            OSError: its files cannot be written.
        """
        directory = self._served.get(allocation.directory)
        if directory is not None:
            await directory.tell(told)

    async def remove(self, allocation: Allocation) -> None:
        """Serves it no more, and removes it from the host.

        Raises:
            OSError: not all of it can be removed.
        """
        directory = self._of(allocation)
        del self._served[allocation.directory]
        await directory.remove()

    async def close(self) -> None:
        """Ends every socket; the files stay."""
        await asyncio.gather(*(directory.close() for directory in self._served.values()))

    def _of(self, allocation: Allocation) -> ContainerDirectory:
        return self._served.setdefault(allocation.directory, self._made_for(allocation))

    def _made_for(self, allocation: Allocation) -> ContainerDirectory:
        uid = allocation.uid

        async def acknowledge(applied: Applied) -> None:
            if uid is not None:
                await self._acknowledge(uid, applied)

        return ContainerDirectory(self._root / allocation.directory, acknowledge=acknowledge)
