import asyncio
import json

import pytest

from tests.component.extender.support import Extender, Json, Site, eventually, where
from tests.support.patience import PATIENCE
from tests.unit.extender.builders import a_node, a_pod


async def test_a_pod_is_filtered_ranked_and_bound_with_its_gpu(extender: Extender, site: Site) -> None:
    large, small = await site.add_node("24Gi", "12Gi"), await site.add_node("3Gi")
    pod = await site.add_pod(a_pod("chat"))
    await extender.knows(large, small)
    assert await extender.filter(pod, large, small) == {
        "NodeNames": [large],
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {small: "no GPU as large as the floor"},
    }
    assert await extender.prioritize(pod, large) == [{"Host": large, "Score": 10}]
    assert await extender.bind(pod, large) == ""
    # The tighter one of the two GPUs where it keeps its full size.
    assert where(await site.pod("chat")) == (large, (f"{large}-1",))


async def test_all_of_the_score_goes_to_one_node(extender: Extender, site: Site) -> None:
    nodes = [await site.add_node("12Gi") for _ in range(3)]
    pod = await site.add_pod(a_pod("chat"))
    await extender.knows(*nodes)
    # kube-scheduler counts nothing for nodes that are left out.
    assert await extender.prioritize(pod, *nodes) == [{"Host": min(nodes), "Score": 10}]


async def test_a_node_that_nobody_reported_may_pass_later(extender: Extender, site: Site) -> None:
    pod = await site.add_pod(a_pod("chat"))
    answer = await extender.filter(pod, "unheard-of")
    assert answer["FailedNodes"] == {"unheard-of": "GPUs not reported by the node's agent"}
    assert answer["FailedAndUnresolvableNodes"] == {}


async def test_a_pod_without_vram_passes_everywhere_and_is_bound_without_gpus(extender: Extender, site: Site) -> None:
    node = await site.add_node("12Gi")
    pod = await site.add_plain_pod("web")
    assert (await extender.filter(pod, node, "unheard-of"))["NodeNames"] == [node, "unheard-of"]
    assert await extender.prioritize(pod, node) == []
    assert await extender.bind(pod, node) == ""
    assert where(await site.pod("web")) == (node, ())


async def test_of_two_filters_at_the_same_time_for_one_free_slot_one_passes(extender: Extender, site: Site) -> None:
    nodes = [await site.add_node("7Gi") for _ in range(20)]
    pods = [await site.add_pod(a_pod(f"chat-{number}")) for number in range(2)]
    await extender.knows(*nodes)
    for node in nodes:
        answers = await asyncio.gather(*(extender.filter(pod, node) for pod in pods))
        assert sorted(len(answer["NodeNames"]) for answer in answers) == [0, 1]


async def test_bind_asked_twice_at_once_binds_once(extender: Extender, site: Site) -> None:
    node = await site.add_node("12Gi")
    pod = await site.add_pod(a_pod("chat"))
    await extender.knows(node)
    assert set(await asyncio.gather(extender.bind(pod, node), extender.bind(pod, node))) == {""}
    assert await extender.bind(pod, node) == ""
    assert where(await site.pod("chat")) == (node, (f"{node}-0",))


async def test_a_pod_that_was_deleted_is_not_bound_and_leaves_its_room(extender: Extender, site: Site) -> None:
    node = await site.add_node("7Gi")
    pod = await site.add_pod(a_pod("chat"))
    await extender.knows(node)
    assert (await extender.filter(pod, node))["NodeNames"] == [node]
    await site.delete("chat")
    error = await extender.bind(pod, node)
    assert error == f"{site.namespace}/chat was deleted before it was bound to {node}."
    assert (await extender.filter(await site.add_pod(a_pod("next")), node))["NodeNames"] == [node]


async def test_a_pod_that_took_a_deleted_pods_name_is_not_bound_in_its_place(extender: Extender, site: Site) -> None:
    node = await site.add_node("12Gi")
    first = await site.add_pod(a_pod("chat"))
    await extender.knows(node)
    await extender.filter(first, node)
    await site.delete("chat")
    await site.add_pod(a_pod("chat"))
    assert await extender.bind(first, node) == f"{site.namespace}/chat was deleted before it was bound to {node}."
    assert where(await site.pod("chat")) is None


async def test_held_bytes_keep_a_newcomer_out_until_the_node_says_they_are_free(extender: Extender, site: Site) -> None:
    node = await site.add_node("12Gi")
    await site.report(a_node(node).gpu(f"{node}-0", "12Gi").grant("gone", f"{node}-0", held="9Gi"))
    pod = await site.add_pod(a_pod("chat"))

    async def answer() -> Json:
        return await extender.filter(pod, node)

    async def refused() -> bool | None:
        return True if not (await answer())["NodeNames"] else None

    async def passed() -> bool | None:
        return True if (await answer())["NodeNames"] else None

    await eventually(refused, "refusal")
    assert (await answer())["FailedAndUnresolvableNodes"] == {node: "no GPU with room for the floor"}
    await site.report(a_node(node).gpu(f"{node}-0", "12Gi"))
    await eventually(passed, "room")


BAD_REQUESTS = {
    "not JSON": (b"{", 400, "The request's body is not ExtenderArgs: Input data was truncated."),
    "no pod": (b"{}", 400, "The request's body is not ExtenderArgs: Object missing required field `Pod`."),
    "no names": (
        b'{"Pod": {}, "Nodes": null, "NodeNames": null}',
        400,
        "NodeNames is missing; set nodeCacheCapable: true for this extender.",
    ),
    "too large": (b" " * (9 << 20), 413, "The request's body is larger than 8Mi."),
}


@pytest.mark.parametrize("sentence", BAD_REQUESTS)
async def test_a_bad_request_is_answered_with_a_sentence(extender: Extender, sentence: str) -> None:
    raw, status, text = BAD_REQUESTS[sentence]
    assert await extender.post("filter", None, raw=raw) == (status, f"{text}\n")


async def test_a_body_that_does_not_come_is_given_up(extender: Extender) -> None:
    host, _, port = extender.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /filter HTTP/1.1\r\nHost: extender\r\nContent-Length: 10\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        answer = await reader.readuntil(b"within 5 s.\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()


async def test_what_it_knows_and_counts_can_be_looked_at(extender: Extender, site: Site) -> None:
    node = await site.add_node("12Gi")
    pod = await site.add_pod(a_pod("chat"))
    await extender.knows(node)
    await extender.filter(pod, node)
    _, text = await extender.get(f"http://{extender.address}/debug/ledger")
    [claim] = json.loads(text)[node]["claims"]
    assert (claim["pod"], claim["standing"]) == (f"{site.namespace}/chat", "SoftHeld")
    _, metrics = await extender.get(f"http://{extender.health}/metrics")
    assert 'arbiter_extender_request_seconds_count{verb="filter"}' in metrics
    assert "arbiter_ledger_drift_total" in metrics
    assert 'arbiter_ledger_promised_pods{standing="Assumed"} 0.0' in metrics
