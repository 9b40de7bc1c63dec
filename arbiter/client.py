"""How an engine follows its quality target: the one file of Arbiter that may be copied into an engine.

Imports the standard library only, nothing else of Arbiter, and runs on Python 3.8 or newer::

    from arbiter.client import watch_quality

    for target in watch_quality():
        engine.resize(target.vram_bytes)
        target.acknowledge()

Errors::

    QualityError
    ├── NotUnderArbiterError    no directory of Arbiter in this container
    ├── NoTargetError           the directory is there, a readable quality.json did not come in time
    └── AgentUnreachableError   an acknowledgement was not accepted in time
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "AgentUnreachableError",
    "NoTargetError",
    "NotUnderArbiterError",
    "QualityError",
    "QualityTarget",
    "watch_quality",
]

_log = logging.getLogger(__name__)

_DEFAULT_DIRECTORY = "/run/arbiter"
_FILE_INTERVAL = 0.1
"""Seconds between two looks at quality.json while the agent does not answer."""
_ANSWER_SECONDS = 5.0
"""What the agent may take for an answer, beyond the time that it was asked to wait."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


class QualityError(Exception):
    """Anything that goes wrong between an engine and its agent."""


class NotUnderArbiterError(QualityError):
    """This process does not run in a container that Arbiter gave GPU memory to."""


class NoTargetError(QualityError):
    """No readable quality.json within the time."""


class AgentUnreachableError(QualityError):
    """The agent did not accept an acknowledgement within the time."""


@dataclass(frozen=True)
class QualityTarget:
    """What this container may use now, and where that is going; sizes in bytes per GPU, qualities in 0..1.

    `pressure` (Low, Moderate, High, Critical) and `mode` (Adaptive, LlmFirst, DiffusionFirst, Balanced, Fixed) stay
    plain text, so that a copy of this file survives a word that it does not know.
    """

    quality: float
    target: float
    minimum: float
    vram_bytes: int
    gpu_fraction: float
    gpus: tuple[str, ...]
    pressure: str
    mode: str
    revision: int
    reason: str
    directory: Path = field(repr=False, compare=False)
    """Where it was read: the acknowledgement goes to the socket in there."""

    def acknowledge(
        self, *, quality: float | None = None, vram_bytes: int | None = None, timeout: float | None = None
    ) -> bool:
        """Tell the agent that this target is applied: from here on no more than its bytes are in use.

        Until this is told, the agent lends nobody the bytes that a smaller target gives back. An engine that works in
        steps states the `quality` and `vram_bytes` that it really uses; the default is what the target allows. The
        call repeats until the agent has it on its disk, by default for as long as that takes: an engine loses nothing
        by waiting, since no agent means no newer target either.

        Returns:
            True once the agent has it; False when a newer target came first, which is then the one to apply and
            acknowledge.

        Raises:
            AgentUnreachableError: it was not accepted within `timeout` seconds.
        """
        body = json.dumps(
            {
                "revision": self.revision,
                "quality": self.quality if quality is None else quality,
                "vramBytes": self.vram_bytes if vram_bytes is None else vram_bytes,
            }
        )
        patience = float("inf") if timeout is None else timeout
        deadline = time.monotonic() + patience
        pauses = _pauses()
        while True:
            try:
                _request(
                    self.directory,
                    method="POST",
                    path="/v1/applied",
                    body=body,
                    timeout=min(_ANSWER_SECONDS, patience),
                )
                return True
            except _NoAnswerError as problem:
                _log.info("revision %d is not acknowledged yet: %s", self.revision, problem)
                if self._is_superseded():
                    return False
                pause = next(pauses)
                if time.monotonic() + pause > deadline:
                    raise AgentUnreachableError(
                        f"revision {self.revision} could not be acknowledged within {timeout:g} s: {problem}."
                    ) from problem
            time.sleep(pause)

    def _is_superseded(self) -> bool:
        try:
            return _read_file(self.directory).revision > self.revision
        except _NoAnswerError:
            return False


def watch_quality(
    directory: str | os.PathLike[str] | None = None, *, start_timeout: float = 60.0, poll_timeout: float = 10.0
) -> Iterator[QualityTarget]:
    """The current target at once, then each newer one; never the same or an older one again, and it never ends.

    It asks the agent's socket and waits there for news; while the agent is away (an upgrade, a crash) it watches the
    file beside it. Targets that came and went while the engine was busy are passed over.

    Args:
        directory: default `$ARBITER_DIR`, else `/run/arbiter`.
        start_timeout: seconds to wait for the first target.
        poll_timeout: seconds that one question stays open. An agent that hangs goes unnoticed for so long, which
            must stay well below the shrink grace (30 s by default).

    Raises:
        NotUnderArbiterError: there is no such directory (raised by the call itself).
        NoTargetError: no readable quality.json within `start_timeout` (raised by the first step).
    """
    path = Path(directory or os.environ.get("ARBITER_DIR") or _DEFAULT_DIRECTORY)
    if not path.is_dir():
        raise NotUnderArbiterError(
            f"{path} is no directory, so this container does not run under Arbiter: annotate its pod with "
            "arbiter.infernum.io/allocation or arbiter.infernum.io/workload-type."
        )
    return _targets(path, start_timeout=start_timeout, poll_timeout=poll_timeout)


def _targets(directory: Path, *, start_timeout: float, poll_timeout: float) -> Iterator[QualityTarget]:
    target = _first_target(directory, timeout=start_timeout)
    while True:
        yield target
        target = _newer_target(directory, than=target.revision, poll_timeout=poll_timeout)


def _first_target(directory: Path, *, timeout: float) -> QualityTarget:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return _read_file(directory)
        except _NoAnswerError as problem:
            if time.monotonic() + _FILE_INTERVAL > deadline:
                raise NoTargetError(
                    f"no quality target within {timeout:g} s: {problem}; does Arbiter's device plugin run on this node?"
                ) from problem
        time.sleep(_FILE_INTERVAL)


def _newer_target(directory: Path, *, than: int, poll_timeout: float) -> QualityTarget:
    pauses = _pauses()
    while True:
        try:
            target = _ask_agent(directory, after=than, timeout=poll_timeout)
            if target.revision > than:
                return target
            pauses = _pauses()
        except _NoAnswerError as problem:
            _log.info("watching quality.json, since the agent does not answer: %s", problem)
        # After an answer without news too: an agent that does not wait as it is asked to must not be asked in a spin.
        found = _watch_file(directory, newer_than=than, seconds=next(pauses))
        if found is not None:
            return found


def _watch_file(directory: Path, *, newer_than: int, seconds: float) -> QualityTarget | None:
    """The file's target if a newer one stands there within `seconds`.

    It is read each time rather than compared by its times: some hundred bytes cost no more than that, and two
    replacements within one tick of the file system's clock cannot hide each other.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            target = _read_file(directory)
            if target.revision > newer_than:
                return target
        except _NoAnswerError as problem:
            _log.info("no target in the file: %s", problem)
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(left, _FILE_INTERVAL))


def _ask_agent(directory: Path, *, after: int, timeout: float) -> QualityTarget:
    answer = _request(
        directory,
        method="GET",
        path=f"/v1/quality?after={after}&timeout={timeout:g}s",
        body=None,
        timeout=timeout + _ANSWER_SECONDS,
    )
    return _parse(answer, directory=directory, source=f"the answer of {directory / 'agent.sock'}")


def _read_file(directory: Path) -> QualityTarget:
    """The file is replaced as a whole, so what is read is one target or none."""
    path = directory / "quality.json"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise _NoAnswerError(f"{path} cannot be read ({error.strerror})") from error
    return _parse(text, directory=directory, source=str(path))


def _parse(text: bytes, *, directory: Path, source: str) -> QualityTarget:
    try:
        document = json.loads(text)
        if document["kind"] != "QualityTarget":
            raise ValueError(f"kind {document['kind']!r}")
        return QualityTarget(
            quality=float(document["quality"]),
            target=float(document["target"]),
            minimum=float(document["minimum"]),
            vram_bytes=int(document["vramBytes"]),
            gpu_fraction=float(document["gpuFraction"]),
            gpus=tuple(str(gpu) for gpu in document["gpus"]),
            pressure=str(document["pressure"]),
            mode=str(document["mode"]),
            revision=int(document["revision"]),
            reason=str(document["reason"]),
            directory=directory,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _NoAnswerError(f"{source} is no QualityTarget ({type(error).__name__}: {error})") from error


class _NoAnswerError(Exception):
    """The socket or the file gave nothing usable this time; the loops above try again and never let it out."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a socket file, opened by its path each time: a restarted agent makes a new one."""

    def __init__(self, path: Path, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Called by the standard library before the first byte is sent."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _request(directory: Path, *, method: str, path: str, body: str | None, timeout: float) -> bytes:
    """The body of a 200 answer."""
    socket_path = directory / "agent.sock"
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        with closing(_UnixConnection(socket_path, timeout=timeout)) as connection:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise _NoAnswerError(f"{socket_path} does not answer ({error or type(error).__name__})") from error
    if response.status != http.client.OK:
        reason = answer.decode(errors="replace").strip()
        raise _NoAnswerError(f"{socket_path} answers {method} {path} with {response.status} {reason}")
    return answer


def _pauses() -> Iterator[float]:
    pause = _SHORTEST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)
