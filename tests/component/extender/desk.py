"""The extender inside the test's process: HTTP on loopback, a ledger that the test feeds, and an API server of a few
lines that has nothing and tells what the test has it tell."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from arbiter_extender.binder import Binder
from arbiter_extender.decision import FilterAnswer
from arbiter_extender.feed import Feed
from arbiter_extender.ledger import Ledger
from arbiter_extender.metrics import Metrics
from arbiter_extender.server import serve
from arbiter_extender.service import Extender
from arbiter_kube.client import KubeClient
from arbiter_kube.client.credentials import BearerToken, Credentials
from arbiter_kube.client.health import Bind
from tests.component.extender.support import eventually
from tests.unit.extender.builders import UNIT

Json = Any  # what kube-scheduler's and the API server's JSON holds


class EmptyApi:
    """An API server that has nothing unless it is put in `has`, by kind (`pods`, `gpunodes`, …).

    `tell` sends a line on the watches of a kind.
    """

    def __init__(self) -> None:
        self.has: dict[str, list[Json]] = {}
        """Objects; bytes go out as they are."""
        self._told: defaultdict[str, asyncio.Queue[bytes]] = defaultdict(asyncio.Queue)
        self._application = web.Application()
        self._application.router.add_route("*", "/{path:.*}", self._answer)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[KubeClient]:
        async with TestServer(self._application) as server:
            address = str(server.make_url("")).rstrip("/")
            credentials = Credentials(server=address, ssl=None, token=BearerToken(lambda: None))
            async with KubeClient(credentials, component="test") as client:
                yield client

    def expire(self, kind: str) -> None:
        """Ends the watches of a kind, since versions are too old: everything is listed anew."""
        self.tell(kind, "ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})

    def tell(self, kind: str, event: str, thing: Json) -> None:
        self.tell_line(kind, json.dumps({"type": event, "object": thing}).encode())

    def tell_line(self, kind: str, line: bytes) -> None:
        """The same of what json would not write."""
        self._told[kind].put_nowait(line + b"\n")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watch(request)
        if request.method == "GET" and "limit" in request.query:
            return self._page(request)
        missing = {"kind": "Status", "code": 404, "reason": "NotFound", "message": "there is nothing here"}
        return web.json_response(missing, status=404)

    def _page(self, request: web.Request) -> web.Response:
        everything = self.has.get(request.path.rpartition("/")[2], [])
        first, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        rest = {"continue": str(first + limit)} if first + limit < len(everything) else {}
        metadata = json.dumps({"resourceVersion": "1"} | rest).encode()
        items = [
            item if isinstance(item, bytes) else json.dumps(item).encode() for item in everything[first : first + limit]
        ]
        body = b'{"metadata": ' + metadata + b', "items": [' + b",".join(items) + b"]}"
        return web.Response(body=body, content_type="application/json")

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        told = self._told[request.path.rpartition("/")[2]]
        with suppress(ConnectionError):
            while True:
                await response.write(await told.get())
        return response


@dataclass(frozen=True)
class Desk:
    """What a test has of it."""

    api: EmptyApi
    ledger: Ledger
    address: str
    session: aiohttp.ClientSession

    async def post(self, verb: str, body: Json) -> tuple[int, str]:
        """Status and text of the answer; `body` as it is where it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(f"http://{self.address}/{verb}", data=data) as answer:
            return answer.status, await answer.text()

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of the answer."""
        async with self.session.get(f"http://{self.address}{path}") as answer:
            return answer.status, await answer.text()


async def _is_open(feed: Feed) -> bool | None:
    return True if feed.obstacle() is None else None


@asynccontextmanager
async def a_desk(*, filter_answer: FilterAnswer = FilterAnswer.ALL) -> AsyncIterator[Desk]:
    """An extender that follows an API server without objects."""
    api, ledger = EmptyApi(), Ledger(unit=UNIT)
    metrics = Metrics(CollectorRegistry())
    async with api.serving() as client, Binder(client, ledger) as binder, aiohttp.ClientSession() as session:
        feed = Feed(client, ledger)
        extender = Extender(ledger, binder, filter_answer=filter_answer, metrics=metrics)
        async with serve(Bind("127.0.0.1", 0), extender, ready=feed.obstacle, metrics=metrics) as address:
            following = asyncio.create_task(feed.run())
            await eventually(lambda: _is_open(feed), "ready ledger")
            yield Desk(api, ledger, str(address), session)
            assert not following.done(), following
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
