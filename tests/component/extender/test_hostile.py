"""Whatever is sent or told, nobody gets an exception for an answer, and one slot is given once."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import hypothesis.strategies as st
import pytest
from aiohttp import web
from hypothesis import given, settings

from arbiter.ids import NodeName, PodUid
from arbiter_extender import heads, server
from arbiter_extender.decision import FilterAnswer
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api import annotations as a
from arbiter_kube.api.pods import GpuPod, fixed_demand
from arbiter_kube.client import turns
from tests.component.extender.desk import Desk, Json, a_desk
from tests.component.extender.support import eventually
from tests.unit.extender.builders import UNIT, a_node, a_pod

pytestmark = pytest.mark.timeout(900)

BOUNDED = settings(deadline=None)
"""How many examples: the profile that pytest was started with says (`--hypothesis-profile`)."""

NAMES = [f"n{number}" for number in range(3)]


def pod_json(name: str) -> Json:
    limits = {VRAM_RESOURCE: "4"}
    nomination = {a.NOMINATED: '{"node": "n1", "gpus": ["n1-a"], "until": "2030-01-01T00:00:00Z"}'}
    annotations = {a.DEMAND: a.encode_demand(a_pod(name).pod.frozen), a.GPUS: "n1-a"} | nomination
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-{name}",
            "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": annotations,
            "ownerReferences": [{"uid": "set", "controller": True}],
        },
        "spec": {
            "nodeName": "n1",
            "schedulerName": "arbiter-scheduler",
            "containers": [{"name": "main", "resources": {"limits": limits}}],
        },
        "status": {"phase": "Running", "conditions": [{"type": "PodScheduled", "status": "True"}]},
    }


def report_json(name: str) -> Json:
    grant = {"podUID": "uid-b", "namespace": "team", "pod": "b", "container": "main", "gpus": [f"{name}-a"]}
    slices = {"namespace": "team", "pod": "b", "container": "main", "gpu": f"{name}-a", "slices": 4}
    gpu = {"uuid": f"{name}-a", "usable": 12 << 30, "healthy": True, "links": [f"{name}-b"]}
    status = {"unit": 1 << 30, "gpus": [gpu], "grants": [grant | {"held": 4 << 30, "state": "Movable"}]}
    return {"metadata": {"name": name, "uid": name, "resourceVersion": "7"}, "status": status | {"slices": [slices]}}


ARGS = {"Pod": pod_json("asked"), "Nodes": None, "NodeNames": [*NAMES, "unheard-of"]}
REQUESTS = {
    "filter": ARGS,
    "prioritize": ARGS,
    "bind": {"PodName": "asked", "PodNamespace": "team", "PodUID": "uid-asked", "Node": "n0"},
}
POLICY = {"metadata": {"name": "p", "uid": "p", "resourceVersion": "7"}, "spec": {"mode": "Fixed", "weight": 1}}
THINGS = {
    "pods": pod_json("b"),
    "gpunodes": report_json("n1"),
    "nodes": {"metadata": {"name": "n1", "uid": "n1", "resourceVersion": "7", "labels": {"pool": "a"}}},
    "qualitypolicies": POLICY,
}

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-(2**63), 2**63, 2**64, 10**30, -1, 0])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from([*NAMES, "n1-a", "1Ki", "Ki", "-4", "4e9", "1e99", "Late", "{}", "[]", '{"version": 1}'])
)
ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))


@st.composite
def spoilt(draw: st.DrawFn, thing: Json) -> Json:
    """The thing with up to three of its parts replaced by something else, or missing."""
    thing = copy.deepcopy(thing)
    for _ in range(draw(st.integers(min_value=0, max_value=3))):
        part = thing
        while True:
            keys = sorted(part) if isinstance(part, dict) else range(len(part))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(part[key], dict | list) and draw(st.integers(min_value=0, max_value=3)):
                part = part[key]
                continue
            if isinstance(part, dict) and draw(st.booleans()):
                del part[key]
            else:
                part[key] = draw(ANYTHING)
            break
    return thing


@pytest.fixture(scope="module")
def desk_loop() -> Iterator[tuple[asyncio.Runner, Desk]]:
    """One desk for all examples, which leave behind what they told."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def open_desk() -> Desk:
            desk = await stack.enter_async_context(a_desk())
            for name in NAMES:
                desk.ledger.report_applied(NodeName(name), a_node(name).gpu(f"{name}-a", "12Gi").report)
            return desk

        yield runner, runner.run(open_desk())
        runner.run(stack.aclose())


def _identified(kind: str, thing: Json, *, version: int) -> Json:
    """With a name and a version: a watch that tells of no object at all begins anew, half a second later."""
    known = {key: value for key, value in THINGS[kind]["metadata"].items() if key in ("name", "namespace", "uid")}
    spoilt_metadata = thing.get("metadata")
    metadata = spoilt_metadata if isinstance(spoilt_metadata, dict) else {}
    return thing | {"metadata": metadata | known | {"resourceVersion": str(version)}}


def _is_answer(status: int, text: str) -> bool:
    if status == 200:
        json.loads(text)
        return True
    return status == 400 and text.endswith(".\n")


@BOUNDED
@given(verb=st.sampled_from([*REQUESTS]), data=st.data())
def test_no_request_meets_an_exception(desk_loop: tuple[asyncio.Runner, Desk], verb: str, data: st.DataObject) -> None:
    runner, desk = desk_loop
    body = data.draw(spoilt(REQUESTS[verb]) | st.binary(max_size=20) | ANYTHING)
    status, text = runner.run(desk.post(verb, body))
    assert _is_answer(status, text), (status, text)


def _limited(name: str, quantity: str) -> Json:
    pod = pod_json(name)
    pod["spec"]["containers"][0]["resources"]["limits"][VRAM_RESOURCE] = quantity
    return pod


DEEP = b"[" * 50_000 + b"]" * 50_000
"""No JSON parser follows it: a stack is not as deep."""


def _written(pod: Json, *, unknown: bytes) -> bytes:
    return json.dumps(pod | {"x": None}).encode().replace(b'"x": null', b'"x": ' + unknown)


UNREADABLE_PODS = {
    "a field that nobody knows, nested too deep": _written(pod_json("odd"), unknown=DEEP),
    "a field that nobody knows, nested too deep where a list belongs": _written(
        pod_json("odd") | {"spec": {}}, unknown=b'0, "spec": {"containers": ' + DEEP + b"}"
    ),
    "text that is no UTF-8": _written(pod_json("odd"), unknown=b'0, "status": {"reason": "\xff"}'),
    **{f"{text} units": json.dumps(_limited("odd", text)).encode() for text in ("-4", "1e99", "Ki")},
}


@pytest.mark.parametrize("verb", ["filter", "prioritize"])
@pytest.mark.parametrize("pod", UNREADABLE_PODS.values(), ids=UNREADABLE_PODS)
async def test_a_request_about_a_pod_that_nobody_can_read_is_refused(desk: Desk, verb: str, pod: bytes) -> None:
    status, text = await desk.post(verb, b'{"NodeNames": ["n1"], "Pod": ' + pod + b"}")
    assert (status, text[:40]) == (400, "The request's body is not ExtenderArgs: "), text


@pytest.mark.parametrize("pod", UNREADABLE_PODS.values(), ids=UNREADABLE_PODS)
async def test_a_watch_goes_on_behind_a_pod_that_nobody_can_read(desk: Desk, pod: bytes) -> None:
    desk.api.has["pods"] = [pod_json("b")]
    desk.api.tell_line("pods", b'{"type": "MODIFIED", "object": ' + pod + b"}")
    desk.api.tell("pods", "ADDED", pod_json("b"))

    async def knows() -> bool | None:
        return True if desk.ledger.pod(PodUid("uid-b")) else None

    await eventually(knows, "pod after the unreadable one")
    assert desk.ledger.pod(PodUid("uid-odd")) is None


async def test_a_list_that_nobody_can_read_is_asked_for_again_until_it_can(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    deep = UNREADABLE_PODS["a field that nobody knows, nested too deep"]
    desk.api.has["pods"] = [pod_json("b"), deep]
    desk.api.expire("pods")

    async def is_told() -> bool | None:
        told = [record.getMessage() for record in caplog.records if "error=not a Page" in record.getMessage()]
        return True if len(told) > 1 else None

    await eventually(is_told, "second sentence about the list")
    assert (await desk.post("filter", ARGS))[0] == 200
    desk.api.has["pods"].remove(deep)

    async def knows() -> bool | None:
        return True if desk.ledger.pod(PodUid("uid-b")) else None

    await eventually(knows, "pod of the list")


async def test_a_pod_whose_annotations_nobody_can_read_is_counted_by_its_slices(desk: Desk) -> None:
    odd = pod_json("odd")
    deep = '{"version": 1, "x": ' + DEEP.decode() + "}"
    odd["metadata"]["annotations"] |= dict.fromkeys((a.DEMAND, a.GRANT, a.NOMINATED), deep)
    desk.api.tell("pods", "ADDED", odd)

    async def known() -> GpuPod | None:
        return desk.ledger.pod(PodUid("uid-odd"))

    seen = await eventually(known, "pod")
    assert (seen.demand, seen.nomination) == (fixed_demand(4 * UNIT), None)
    assert (await desk.post("filter", ARGS | {"Pod": odd}))[0] == 200


@BOUNDED
@given(data=st.data())
def test_nothing_that_a_watch_tells_ends_it_or_shows_in_an_answer(
    desk_loop: tuple[asyncio.Runner, Desk], data: st.DataObject
) -> None:
    runner, desk = desk_loop
    events = data.draw(
        st.lists(
            st.sampled_from([*THINGS]).flatmap(
                lambda kind: st.tuples(
                    st.just(kind), st.sampled_from(["ADDED", "MODIFIED", "DELETED"]), spoilt(THINGS[kind])
                )
            ),
            min_size=1,
            max_size=6,
        )
    )

    async def tell_and_ask() -> tuple[int, str]:
        for version, (kind, event, thing) in enumerate(events):
            desk.api.tell(kind, event, _identified(kind, thing, version=version))
        await asyncio.sleep(0.005)
        return await desk.post("filter", ARGS)

    status, text = runner.run(tell_and_ask())
    assert status == 200, text
    assert {*json.loads(text)["NodeNames"]} <= {*NAMES}


@pytest.mark.parametrize("filter_answer", FilterAnswer)
async def test_of_two_filters_at_the_same_time_for_one_free_slot_one_passes_a_thousand_times(
    filter_answer: FilterAnswer,
) -> None:
    async with a_desk(filter_answer=filter_answer) as desk:
        nodes = [f"n{number}" for number in range(500)]
        for name in nodes:
            desk.ledger.report_applied(NodeName(name), a_node(name).gpu(f"{name}-a", "7Gi").report)

        async def passed(pod: Json, node: str) -> int:
            _, text = await desk.post("filter", {"Pod": pod, "NodeNames": [node]})
            return len(json.loads(text)["NodeNames"])

        for number, node in enumerate(nodes):
            pods = [pod_json(f"{number}-{side}") for side in ("left", "right")]
            for pod in pods:
                del pod["spec"]["nodeName"], pod["metadata"]["annotations"][a.NOMINATED]
            assert sorted(await asyncio.gather(*(passed(pod, node) for pod in pods))) == [0, 1]


async def test_while_thousands_of_pods_are_listed_anew_requests_are_answered(
    monkeypatch: pytest.MonkeyPatch, desk: Desk
) -> None:
    # After each pod, whatever the machine's speed.
    monkeypatch.setattr(turns, "TURN", 0.0)
    desk.api.has["pods"] = [pod_json(f"b-{number}") for number in range(3000)]
    desk.api.expire("pods")
    last = PodUid("uid-b-2999")
    answered = 0
    while desk.ledger.pod(last) is None:
        status, text = await desk.post("filter", ARGS)
        assert status == 200, text
        answered += desk.ledger.pod(PodUid("uid-b-0")) is not None
    assert answered >= 20, "answers between the first and the last of the list"


WHOLE = b"GET /nothing HTTP/1.1\r\nHost: extender\r\n\r\n"

HALF = b"POST /filter HTTP/1.1\r\nHost: exten"
UNREAD = b"POST /nothing HTTP/1.1\r\nHost: extender\r\nContent-Length: 4\r\n\r\n"

SLOW_HEADS = {
    "the first one": (b"", HALF),
    "one after another request": (WHOLE, HALF),
    "one after a request whose body comes late, and nobody wants it": (UNREAD, b"body", HALF),
}


@pytest.mark.parametrize("sentence", SLOW_HEADS)
async def test_a_head_that_does_not_come_is_answered_and_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, desk: Desk, sentence: str
) -> None:
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.2)
    reader, writer = await _connected(desk)
    first, *then = SLOW_HEADS[sentence]
    writer.write(first)
    if first:
        await _read_answer(reader, status=b"404")
    for part in then:
        writer.write(part)
        await asyncio.sleep(0.05)
    await _ends_with(reader, b"HTTP/1.1 408 ", b"The request's head did not come within 0.2 s.\n")
    writer.close()
    await writer.wait_closed()


async def test_a_head_that_begins_while_another_request_is_answered_is_waited_for_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.2)
    may_answer = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.Response:
        with heads.answering(request):
            await may_answer.wait()
        return web.Response(text="404: Not Found")

    server = await asyncio.get_running_loop().create_server(heads.Connections(web.Server(answer)), "127.0.0.1")
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for part in (WHOLE, HALF):
            writer.write(part)
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.4)
        may_answer.set()
        await _read_answer(reader, status=b"200")
        await _ends_with(reader, b"HTTP/1.1 408 ", b"The request's head did not come within 0.2 s.\n")
        writer.close()


async def test_connections_beyond_the_bound_are_refused_until_others_end(
    monkeypatch: pytest.MonkeyPatch, desk: Desk
) -> None:
    monkeypatch.setattr(heads, "MOST_CONNECTIONS", 3)
    several = [await _connected(desk) for _ in range(3)]
    for reader, writer in several:
        writer.write(WHOLE)
        await _read_answer(reader, status=b"404")
    reader, writer = await _connected(desk)
    await _ends_with(reader, b"HTTP/1.1 503 ", b"There are 3 connections already.\n")
    writer.close()
    several[0][1].close()

    async def is_let_in() -> bool | None:
        reader, writer = await _connected(desk)
        writer.write(WHOLE)
        async with asyncio.timeout(30):
            status = (await reader.readline()).split()[1]
        writer.close()
        return True if status == b"404" else None

    await eventually(is_let_in, "connection in the place of one that ended")
    for _, writer in several:
        writer.close()


async def test_a_connection_may_rest_between_requests(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.05)
    reader, writer = await _connected(desk)
    for _ in range(2):
        writer.write(WHOLE)
        await _read_answer(reader, status=b"404")
        await asyncio.sleep(0.2)
    writer.close()
    await writer.wait_closed()


async def _connected(desk: Desk) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = desk.address.partition(":")
    return await asyncio.open_connection(host, int(port))


async def _ends_with(reader: asyncio.StreamReader, status: bytes, sentence: bytes) -> None:
    async with asyncio.timeout(30):
        answer = await reader.read()
    assert answer.startswith(status)
    assert answer.endswith(b"\r\n\r\n" + sentence)


async def _read_answer(reader: asyncio.StreamReader, *, status: bytes) -> None:
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status)
        await reader.readexactly(len(b"404: Not Found"))


async def test_a_head_without_end_is_refused(desk: Desk) -> None:
    reader, writer = await _connected(desk)
    writer.write(b"POST /filter HTTP/1.1\r\nHost: " + b"e" * (1 << 20))
    async with asyncio.timeout(30):
        assert (await reader.readline()).startswith(b"HTTP/1.0 400 ")
    writer.close()


async def test_bodies_that_are_too_large_together_are_refused_one_by_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.5)
    head = b"POST /filter HTTP/1.1\r\nHost: extender\r\nContent-Length: %d\r\n\r\n" % server.MAX_BODY
    many = [await _connected(desk) for _ in range(server.MAX_BODIES // server.MAX_BODY + 1)]
    for _, writer in many:
        writer.write(head)
    statuses = []
    for reader, writer in many:
        async with asyncio.timeout(30):
            statuses.append((await reader.readline()).split()[1])
        writer.close()
    assert sorted(statuses) == [b"408"] * (len(many) - 1) + [b"503"]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with a_desk() as running:
        yield running
