"""How an engine is seen to be up, with real sockets."""

import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from arbiter.run.readiness import Readiness


class _Health(HTTPServer):
    status = 503
    asked = ""


class _Handler(BaseHTTPRequestHandler):
    server: _Health

    def do_GET(self) -> None:
        self.server.asked = self.path
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def health() -> Iterator[_Health]:
    server = _Health(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _is_up(readiness: Readiness, *, lived: float = 0.0, has_said: bool = False) -> bool:
    return readiness.is_up(lived=lived, has_said=has_said)


def test_an_engine_is_up_when_its_health_answers_200(health: _Health) -> None:
    readiness = Readiness(url=f"http://127.0.0.1:{health.server_port}/health?deep=1")

    before = _is_up(readiness)
    health.status = 200

    assert (before, _is_up(readiness)) == (False, True)
    assert health.asked == "/health?deep=1"


def test_an_engine_is_up_when_something_listens(health: _Health) -> None:
    assert _is_up(Readiness(port=health.server_port))


def test_an_engine_is_not_up_while_nothing_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]

    assert not _is_up(Readiness(port=port))
    assert not _is_up(Readiness(url=f"http://127.0.0.1:{port}/health"))


def test_an_engine_is_up_when_it_has_said_so() -> None:
    readiness = Readiness(log=re.compile("listening"))

    assert [_is_up(readiness, lived=100), _is_up(readiness, has_said=True)] == [False, True]


def test_an_engine_of_which_nothing_is_known_is_up_when_it_has_lived_a_while() -> None:
    assert [_is_up(Readiness(after=5), lived=lived) for lived in (4.9, 5.0)] == [False, True]
