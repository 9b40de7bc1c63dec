"""Whether an engine is up: what it answers, where it listens, what it prints, or that it has lived for a while."""

from __future__ import annotations

import http.client
import re
import socket
import urllib.parse
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

from arbiter.run.errors import RunError
from arbiter.run.tables import Table

__all__ = ["Readiness", "parse_url", "readiness_of"]

_PROBE_SECONDS = 1.0
_OK = 200


@dataclass(frozen=True)
class Readiness:
    """How an engine shows that it is up: the first of these that is set; else after `after` seconds of life."""

    url: str | None = None
    port: int | None = None
    log: re.Pattern[str] | None = None
    after: float = 5.0

    def is_up(self, *, lived: float, has_said: bool) -> bool:
        """Ask now. `lived` is seconds since the engine was started, `has_said`: it printed the line of `log`."""
        if self.url is not None:
            return _answers(self.url)
        if self.port is not None:
            return _listens(self.port)
        return has_said if self.log is not None else lived >= self.after


def readiness_of(table: Table, command: Sequence[str]) -> Readiness:
    """What a table knows of its engine: its health by HTTP, on the port that the command states."""
    if table.health is None:
        return Readiness()
    return Readiness(url=f"http://127.0.0.1:{_port(command) or table.port}{table.health}")


def parse_url(text: str) -> str:
    """``http://127.0.0.1:8000/health`` of the command line.

    Raises:
        RunError: it is no such address.
    """
    parts = urllib.parse.urlsplit(text)
    with suppress(ValueError):
        if parts.scheme == "http" and parts.hostname and parts.port != 0:  # reading a port that is none raises
            return text
    raise RunError(f'"{text}" is no address to ask; write for example --ready-url http://127.0.0.1:8000/health')


def _port(command: Sequence[str]) -> int | None:
    match = re.search(r"(?:^|\0)--port[=\0](\d+)(?:\0|$)", "\0".join(command))
    return int(match[1]) if match else None


def _answers(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    asked = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PROBE_SECONDS)
    with suppress(OSError, http.client.HTTPException), closing(asked):
        asked.request("GET", path)
        return asked.getresponse().status == _OK
    return False


def _listens(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), timeout=_PROBE_SECONDS)):
        return True
    return False
