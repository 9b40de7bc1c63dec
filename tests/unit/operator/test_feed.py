"""What the operator learns of its own kinds by listing them; a small server on loopback plays the API server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from arbiter.units import GIB
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.client import KubeClient
from arbiter_kube.client.credentials import BearerToken, Credentials
from arbiter_operator import feed as feeds
from arbiter_operator.cluster import Cluster
from arbiter_operator.feed import Feed
from tests.support.patience import PATIENCE
from tests.unit.operator.builders import allocation

GROUP = "/apis/arbiter.infernum.io/v1alpha1"
STRANGE = {"metadata": {"name": "strange", "namespace": "team-b"}, "spec": {"workloadType": "Chess"}}


@asynccontextmanager
async def fed(cluster: Cluster, *, allocations: list[dict[str, Any]]) -> AsyncIterator[tuple[Feed, asyncio.Event]]:
    """A feed at work, of an API server that has these and no policy; the event is set after each thing it learns."""

    async def listed(request: web.Request) -> web.Response:
        items = allocations if request.path.endswith("gpuallocations") else []
        return web.json_response({"metadata": {}, "items": items})

    application = web.Application()
    for plural in ("gpuallocations", "qualitypolicies"):
        application.router.add_get(f"{GROUP}/{plural}", listed)
    async with TestServer(application) as server:
        credentials = Credentials(
            server=str(server.make_url("")).rstrip("/"), ssl=None, token=BearerToken(lambda: None)
        )
        async with KubeClient(credentials, component="test") as client:
            woken = asyncio.Event()
            feed = Feed(client, cluster, wake=woken.set)
            running = asyncio.create_task(feed.run())
            try:
                yield feed, woken
            finally:
                running.cancel()
                await asyncio.wait([running])


async def test_one_object_that_nobody_can_read_hides_no_other_and_keeps_its_last_readable_form() -> None:
    cluster = Cluster(unit=GIB)
    before = allocation("strange", namespace="team-b")
    cluster.allocation_applied(before)
    chat = allocation().model_dump(mode="json", by_alias=True, exclude_none=True)
    async with fed(cluster, allocations=[STRANGE, chat]) as (_, woken), asyncio.timeout(PATIENCE):
        await woken.wait()
    assert cluster.allocations == {
        ObjectKey("team-b", "strange"): before,
        ObjectKey("team-a", "chat"): allocation(),
    }


async def test_what_vanished_before_the_watch_began_anew_is_gone_long_before_the_next_list_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "RELIST_INTERVAL", 10 * PATIENCE)
    cluster, chat = Cluster(unit=GIB), allocation().model_dump(mode="json", by_alias=True, exclude_none=True)
    stored = [chat]
    async with fed(cluster, allocations=stored) as (feed, woken), asyncio.timeout(PATIENCE):
        await woken.wait()
        assert [*cluster.allocations] == [ObjectKey("team-a", "chat")]
        stored.clear()
        woken.clear()
        feed.watch_began_anew()
        await woken.wait()
    assert cluster.allocations == {}
