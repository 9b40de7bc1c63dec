"""A container's agent as its engine sees it: quality.json, and an HTTP socket beside it that misbehaves on request."""

import json
import os
import socketserver
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

Misbehaviour = Callable[["_Handler"], None]
"""Answers one request in the agent's place, or leaves it without an answer."""


def document(revision: int, **changes: object) -> dict[str, object]:
    """quality.json as the agent writes it."""
    return {
        "apiVersion": "arbiter.infernum.io/v1alpha1",
        "kind": "QualityTarget",
        "quality": 0.904,
        "target": 0.904,
        "minimum": 0.4,
        "vramBytes": 9256 << 20,
        "gpuFraction": 0.753,
        "gpus": ["GPU-0"],
        "pressure": "High",
        "mode": "Adaptive",
        "revision": revision,
        "reason": "team-b/posters joined gpu-1/0",
        **changes,
    }


@dataclass
class FakeAgent:
    """Starts, stops and starts again on one directory; keeps what it was asked and told."""

    directory: Path
    misbehaviours: deque[Misbehaviour] = field(default_factory=deque)
    requests: list[str] = field(default_factory=list)
    applied: list[dict[str, object]] = field(default_factory=list)
    newest: dict[str, object] = field(default_factory=dict)
    waiting: threading.Event = field(default_factory=threading.Event)
    """Set while a question waits for news."""
    _server: "_Server | None" = None
    _news: threading.Condition = field(default_factory=threading.Condition)

    def publish(self, revision: int, **changes: object) -> None:
        self.write(json.dumps(document(revision, **changes)))
        self.newest = document(revision, **changes)
        with self._news:
            self._news.notify_all()

    def write(self, text: str) -> None:
        """Replace the file, without a word on the socket."""
        (self.directory / "quality.json.new").write_text(text)
        os.replace(self.directory / "quality.json.new", self.directory / "quality.json")

    def start(self) -> None:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def stop(self) -> None:
        """Close the socket and drop whoever waits; harmless when it is stopped already."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        with self._news:
            server.closing = True
            self._news.notify_all()
        server.server_close()
        (self.directory / "agent.sock").unlink()

    def wait_for_news(self, server: "_Server", *, after: int, seconds: float) -> bool:
        """False when the agent ended meanwhile."""
        deadline = time.monotonic() + seconds
        with self._news:
            self.waiting.set()
            self._news.wait_for(
                lambda: server.closing or self.newest["revision"] != after, timeout=deadline - time.monotonic()
            )
            self.waiting.clear()
        return not server.closing


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_GET(self) -> None:
        if self._misbehaves():
            return
        query = parse_qs(urlsplit(self.path).query)
        after, seconds = int(query["after"][0]), float(query["timeout"][0].removesuffix("s"))
        if self.server.agent.wait_for_news(self.server, after=after, seconds=seconds):
            self.answer(200, json.dumps(self.server.agent.newest))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._misbehaves():
            self.server.agent.applied.append(json.loads(body))
            self.answer(200, "{}")

    def _misbehaves(self) -> bool:
        self.server.agent.requests.append(f"{self.command} {self.path}")
        if not self.server.agent.misbehaviours:
            return False
        self.server.agent.misbehaviours.popleft()(self)
        return True

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing; the agent keeps the requests."""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = False  # so that closing it waits for them

    def __init__(self, agent: FakeAgent) -> None:
        super().__init__(str(agent.directory / "agent.sock"), _Handler)
        self.agent = agent
        self.closing = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error of the agent."""
