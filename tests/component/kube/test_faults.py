"""What a real API server does rarely, done by a small server on loopback: refusals, broken lines, early ends."""

import asyncio
import gc
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.resources import NODES
from arbiter_kube.client import ApiError, KubeClient, Reflector, ReflectorTiming, TooManyRequests, Unreachable
from arbiter_kube.client.client import Selection
from arbiter_kube.client.credentials import BearerToken, Credentials
from hack.cluster.pki import Authority
from tests.component.kube.support import Follow
from tests.component.kube.test_reflector import told
from tests.support.patience import PATIENCE

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

QUICK = ReflectorTiming(idle=0.5, backoff_first=0.01, backoff_ceiling=0.05)


class Queries(list[str]):
    """The query strings that came, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Condition()

    async def add(self, query: str) -> None:
        async with self._more:
            self.append(query)
            self._more.notify_all()

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._more:
            await self._more.wait_for(lambda: len(self) >= count)


@asynccontextmanager
async def answering(*answers: Answer) -> AsyncIterator[tuple[KubeClient, Queries]]:
    """A client of a server that gives these answers in turn, the last one for ever; and the queries that came."""
    queries = Queries()

    async def handle(request: web.Request) -> web.StreamResponse:
        await queries.add(request.query_string)
        return await answers[min(len(queries), len(answers)) - 1](request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(application) as server:
        credentials = Credentials(
            server=str(server.make_url("")).rstrip("/"), ssl=None, token=BearerToken(lambda: None)
        )
        async with KubeClient(credentials, component="test") as client:
            yield client, queries


def plain(text: str, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def streamed(*pieces: str, then: float = 0.0) -> Answer:
    """These pieces, each in a packet of its own, then silence of some seconds, then the end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece.encode())
            await asyncio.sleep(0)
        await asyncio.sleep(then)
        return response

    return answer


def node(name: str, version: int) -> str:
    return f'{{"metadata": {{"name": "{name}", "uid": "uid-{name}", "resourceVersion": "{version}"}}}}'


def listed(version: int, *items: str) -> Answer:
    return plain(f'{{"metadata": {{"resourceVersion": "{version}"}}, "items": [{", ".join(items)}]}}')


def line(kind: str, item: str) -> str:
    return f'{{"type": "{kind}", "object": {item}}}\n'


NODE = plain(node("n", 1))
GONE = '{"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}'
SILENT = streamed(then=60)


async def test_a_busy_api_server_is_asked_again_when_it_says() -> None:
    async with answering(plain("busy", 429, Retry_After="1"), NODE) as (client, queries):
        started = asyncio.get_running_loop().time()
        await client.get(NODES, "n")
        assert asyncio.get_running_loop().time() - started >= 1
        assert len(queries) == 2


async def test_a_write_that_was_turned_away_is_repeated() -> None:
    async with answering(plain("busy", 429), NODE) as (client, queries):
        await client.patch(NODES, "n", {})
        assert len(queries) == 2


async def test_a_write_that_may_have_happened_is_not_repeated() -> None:
    async with answering(plain("broken", 500), NODE) as (client, queries):
        with pytest.raises(ApiError, match=r"^patch nodes n: 500 refused: broken$"):
            await client.patch(NODES, "n", {})
        assert len(queries) == 1


async def test_a_read_survives_a_broken_api_server() -> None:
    async with answering(plain("broken", 500), plain("restarting", 503), NODE) as (client, queries):
        assert (await client.get(NODES, "n")).name == "n"
        assert len(queries) == 3


async def test_a_pod_is_asked_by_way_of_the_api_server() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=request.path)

    async with answering(answer) as (client, _):
        asked = await client.ask_pod(ObjectKey("team-a", "chat"), port=8080, path="/metrics")
        assert asked == b"/api/v1/namespaces/team-a/pods/chat:8080/proxy/metrics"


async def test_a_call_ends_when_its_time_is_over() -> None:
    async with answering(SILENT) as (client, _):
        with pytest.raises(Unreachable, match=r"^get nodes n: no answer from the API server: ") as caught:
            await client.get(NODES, "n", within=0.2)
        assert not caught.value.never_sent


async def test_waiting_for_a_busy_api_server_ends_when_the_time_is_over() -> None:
    async with answering(plain("busy", 429, Retry_After="30")) as (client, _):
        with pytest.raises(TooManyRequests):
            await client.get(NODES, "n", within=0.5)


async def test_lines_may_arrive_in_pieces(follow: Follow) -> None:
    text = line("ADDED", node("a", 2)) + line("DELETED", node("a", 3)) + line("ADDED", node("b", 4))
    pieces = [text[start : start + 7] for start in range(0, len(text), 7)]
    async with answering(listed(1), streamed(*pieces, then=60)) as (client, _):
        following = follow(Reflector(client, NODES, timing=QUICK))
        assert told(await following.take(4)) == ["Synced", "Applied a", "Deleted a", "Applied b"]
        await following.stop()


async def test_half_a_line_is_asked_for_again(follow: Follow) -> None:
    whole, half = line("ADDED", node("a", 2)), line("ADDED", node("b", 3))[:20]
    async with answering(listed(1), streamed(whole, half), streamed(line("ADDED", node("b", 3)), then=60)) as (
        client,
        queries,
    ):
        following = follow(Reflector(client, NODES, timing=QUICK))
        assert told(await following.take(3)) == ["Synced", "Applied a", "Applied b"]
        assert "resourceVersion=2" in queries[2]
        await following.stop()


async def test_a_bookmark_moves_the_version_on(follow: Follow) -> None:
    async with answering(
        listed(1), streamed(line("BOOKMARK", '{"metadata": {"resourceVersion": "7"}}')), streamed(then=60)
    ) as (client, queries):
        following = follow(Reflector(client, NODES, timing=QUICK))
        await following.take(1)
        await queries.reach(3)
        assert "resourceVersion=7" in queries[2]
        await following.stop()


@pytest.mark.parametrize(
    "refusal",
    [plain(GONE, 410), streamed(line("ERROR", GONE)), plain("no", 403), streamed("nonsense\n")],
    ids=["refused with 410", "ended with 410", "refused with 403", "nonsense"],
)
async def test_a_watch_that_is_refused_for_good_lists_again(refusal: Answer, follow: Follow) -> None:
    answers = (listed(1, node("a", 1), node("b", 1)), refusal, listed(9, node("b", 1), node("c", 8)), SILENT)
    async with answering(*answers) as (client, _):
        following = follow(Reflector(client, NODES, timing=QUICK))
        assert told(await following.take(6)) == [
            *("Applied a", "Applied b", "Synced"),
            *("Deleted a", "Applied c", "Synced"),
        ]
        await following.stop()


async def test_a_watch_that_is_refused_for_now_is_continued(follow: Follow) -> None:
    answers = (listed(1), plain("restarting", 503), streamed(line("ADDED", node("a", 2)), then=60))
    async with answering(*answers) as (client, _):
        following = follow(Reflector(client, NODES, timing=QUICK))
        assert told(await following.take(2)) == ["Synced", "Applied a"]
        await following.stop()


async def test_a_watch_that_ends_at_once_is_not_asked_for_in_a_hurry(follow: Follow) -> None:
    slow = ReflectorTiming(backoff_first=0.1, backoff_ceiling=60)
    async with answering(listed(1), streamed()) as (client, queries):
        following = follow(Reflector(client, NODES, timing=slow))
        await following.take(1)
        await asyncio.sleep(1)
        # At most 0.05 + 0.1 + 0.2 + 0.4 s of waiting fits into that second, and the list and the first watch.
        assert len(queries) <= 7
        await following.stop()


async def test_the_age_grows_while_nothing_is_heard(follow: Follow) -> None:
    async with answering(listed(1), SILENT) as (client, queries):
        reflector = Reflector(client, NODES, timing=QUICK)
        assert reflector.age() == float("inf")
        following = follow(reflector)
        await following.take(1)
        await queries.reach(3)
        assert reflector.age() >= QUICK.idle
        await following.stop()


def test_a_watch_that_is_left_ends_its_connection_before_the_client_is_closed(tmp_path: Path) -> None:
    serving = Authority(tmp_path).issue("server", common_name="server", hosts=("127.0.0.1",))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(serving.certificate, serving.key)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as threads:
        polite = threads.submit(_says_one_line_and_no_farewell, server, context)

        async def leave() -> None:
            credentials = Credentials(
                server=f"https://127.0.0.1:{server.getsockname()[1]}",
                ssl=Authority(tmp_path).client_context(),
                token=BearerToken(lambda: None),
            )
            async with KubeClient(credentials, component="test") as client:
                watch = client.watch(NODES, Selection(), resource_version="1", lasting=60.0, idle=60.0)
                assert await anext(watch)
                await watch.aclose()

        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            asyncio.run(leave())
            gc.collect()
        server.shutdown(socket.SHUT_RDWR)
        polite.result(PATIENCE).close()
    assert [str(warning.message) for warning in told] == []


def _says_one_line_and_no_farewell(server: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    accepted, _ = server.accept()
    connection = context.wrap_socket(accepted, server_side=True)
    connection.recv(65536)
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n"
    )
    return connection
