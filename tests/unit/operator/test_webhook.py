"""What the webhook answers when the API server itself does not answer it well; a small server on loopback plays it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from arbiter.demand import NO_POLICY
from arbiter.units import GIB
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.client import KubeClient
from arbiter_kube.client.credentials import BearerToken, Credentials
from arbiter_operator.admission import webhook
from arbiter_operator.admission.webhook import PodAdmission
from tests.unit.operator.builders import allocation, pod_manifest

Answer = Callable[[web.Request], Awaitable[web.Response]]

MISSING = 'pod team-a/chat: no GpuAllocation "chat" in namespace team-a; apply it first.'
UNREADABLE = 'pod team-a/chat: GpuAllocation "chat" cannot be read now; try again.'


def refusal(status: int) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "message": "not now", "code": status}, status=status)

    return answer


async def silence(_: web.Request) -> web.Response:
    await asyncio.sleep(60)
    raise AssertionError("Nobody waits for so long.")


async def nothing(_: web.Request) -> web.Response:
    return web.json_response({"metadata": {}, "items": []})


async def rubbish(_: web.Request) -> web.Response:
    return web.json_response({"metadata": {"name": "chat", "namespace": "team-a"}, "spec": {"workloadType": "Chess"}})


async def chat(_: web.Request) -> web.Response:
    return web.json_response(allocation().model_dump(mode="json", by_alias=True, exclude_none=True))


@asynccontextmanager
async def admission(
    *, of_one: Answer, of_all: Answer, known: Iterable[GpuAllocation] = ()
) -> AsyncIterator[PodAdmission]:
    """One whose API server answers so when it is asked for the allocation, and for all of the namespace."""
    application = web.Application()
    everywhere = "/apis/arbiter.infernum.io/v1alpha1/namespaces/team-a/gpuallocations"
    application.router.add_get(f"{everywhere}/chat", of_one)
    application.router.add_get(everywhere, of_all)
    async with TestServer(application) as server:
        address = str(server.make_url("")).rstrip("/")
        credentials = Credentials(server=address, ssl=None, token=BearerToken(lambda: None))
        async with KubeClient(credentials, component="test") as client:
            yield PodAdmission(
                client,
                known={ObjectKey("team-a", one.metadata.name): one for one in known},
                defaults=lambda: NO_POLICY,
                unit=GIB,
            )


async def answered(admitting: PodAdmission) -> kopf.RawBody:
    """The pod of `chat` as it is let in."""
    body, patch = cast("kopf.RawBody", pod_manifest(annotations={"allocation": "chat"})), kopf.Patch()
    await admitting.admit(kopf.Body(body), patch, warnings=[])
    for change in patch.fns:
        change(body)
    return body


async def test_a_pod_that_counts_less_than_nothing_is_refused_with_a_sentence() -> None:
    async with admission(of_one=chat, of_all=nothing) as admitting:
        body = cast("kopf.RawBody", pod_manifest(vram="-4"))
        with pytest.raises(kopf.AdmissionError, match=r'^arbiter\.infernum\.io/vram "-4" is no count') as error:
            await admitting.admit(kopf.Body(body), kopf.Patch(), warnings=[])
    assert error.value.code == 403


FAILURES = {
    "an API server that fails": (refusal(500), nothing, 503, UNREADABLE),
    "one that forbids it": (refusal(403), nothing, 503, UNREADABLE),
    "one that is silent": (silence, nothing, 503, UNREADABLE),
    "an allocation that nobody can read": (rubbish, nothing, 503, UNREADABLE),
    "no such allocation": (refusal(404), nothing, 403, MISSING),
    "no such allocation, and no list of the others": (refusal(404), refusal(500), 403, MISSING),
    "no such allocation, and silence about the others": (refusal(404), silence, 403, MISSING),
}


@pytest.mark.parametrize(("of_one", "of_all", "code", "sentence"), FAILURES.values(), ids=FAILURES)
async def test_a_pod_is_refused_with_a_sentence_where_its_allocation_cannot_be_had(
    of_one: Answer, of_all: Answer, code: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "LOOKUP_SECONDS", 0.3)
    async with admission(of_one=of_one, of_all=of_all) as admitting:
        with pytest.raises(kopf.AdmissionError) as refused:
            await answered(admitting)
    assert (refused.value.code, str(refused.value)) == (code, sentence)


@pytest.mark.parametrize("of_one", [refusal(500), silence], ids=["fails", "is silent"])
async def test_where_the_api_server_cannot_say_what_is_known_of_the_allocation_counts(
    of_one: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "LOOKUP_SECONDS", 0.3)
    async with admission(of_one=of_one, of_all=nothing, known=[allocation()]) as admitting:
        assert demand_of(await answered(admitting))["allocation"] == "chat"


async def test_an_allocation_that_the_api_server_no_longer_has_is_missing_whatever_is_known_of_it() -> None:
    async with admission(of_one=refusal(404), of_all=nothing, known=[allocation()]) as admitting:
        with pytest.raises(kopf.AdmissionError, match="no GpuAllocation"):
            await answered(admitting)


def test_both_reads_together_end_before_the_api_server_gives_up() -> None:
    assert 2 * webhook.LOOKUP_SECONDS < 5


async def test_a_pod_whose_allocation_can_be_read_is_let_in() -> None:
    async with admission(of_one=chat, of_all=nothing) as admitting:
        assert demand_of(await answered(admitting))["allocation"] == "chat"


def demand_of(pod: kopf.RawBody) -> dict[str, Any]:
    """The demand that was frozen in the pod."""
    demand: dict[str, Any] = json.loads(pod["metadata"]["annotations"]["arbiter.infernum.io/demand"])
    return demand
