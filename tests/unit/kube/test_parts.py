"""The client's pure parts: paths, lines, delays, tokens, addresses, errors."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.resources import GPU_NODES, LEASES, NODES, PODS
from arbiter_kube.client import (
    ApiError,
    Conflict,
    CredentialsError,
    EvictionRefused,
    Gone,
    KubeClient,
    TooManyRequests,
    Unreachable,
    codec,
)
from arbiter_kube.client.backoff import Backoff
from arbiter_kube.client.bucket import TokenBucket
from arbiter_kube.client.credentials import TOKEN_AGE, BearerToken, Credentials, service_account
from arbiter_kube.client.errors import api_error
from arbiter_kube.client.health import Bind, InvalidBindError, parse_bind
from arbiter_kube.client.lines import LineSplitter
from arbiter_kube.client.store import Applied, Change, Deleted, Store


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (PODS.path(), "/api/v1/pods"),
        (PODS.path(namespace="a", name="p", subresource="binding"), "/api/v1/namespaces/a/pods/p/binding"),
        (NODES.path(name="n"), "/api/v1/nodes/n"),
        (NODES.path(namespace="ignored", name="n"), "/api/v1/nodes/n"),
        (LEASES.path(namespace="a"), "/apis/coordination.k8s.io/v1/namespaces/a/leases"),
        (GPU_NODES.path(name="n", subresource="status"), "/apis/arbiter.infernum.io/v1alpha1/gpunodes/n/status"),
        (PODS.path(namespace="a", name="../b?c"), "/api/v1/namespaces/a/pods/..%2Fb%3Fc"),
    ],
)
def test_a_path_is_the_api_servers(path: str, expected: str) -> None:
    assert path == expected


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"."))), st.integers(1, 7))
def test_lines_do_not_depend_on_how_they_arrive(lines: list[bytes], size: int) -> None:
    text = b"".join(line + b"\n" for line in lines) + b"rest"
    splitter = LineSplitter()
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert [line for piece in pieces for line in splitter.feed(piece)] == [line for line in lines if line]


def test_delays_double_up_to_the_ceiling_less_half_at_most() -> None:
    backoff = Backoff(first=1.0, ceiling=5.0)
    for most in (1, 2, 4, 5, 5):
        assert most / 2 <= backoff.next() <= most
    backoff.reset()
    assert backoff.next() <= 1


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=2, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.5, 1.0]
    assert bucket.take(2.0) == 0.0
    assert [bucket.take(100.0) for _ in range(3)] == [0.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:8080", Bind("127.0.0.1", 8080)),
        (":8080", Bind("0.0.0.0", 8080)),  # noqa: S104 - the address is only compared
        ("[::1]:0", Bind("::1", 0)),
    ],
)
def test_an_address_is_host_and_port(text: str, bind: Bind) -> None:
    assert parse_bind(text) == bind


@pytest.mark.parametrize("text", ["", "8080", "host:", "host:http", "host:65536", "::1:80"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidBindError, match="write HOST:PORT"):
        parse_bind(text)


@pytest.mark.parametrize(
    ("status", "kind", "transient"),
    [
        (409, Conflict, False),
        (410, Gone, False),
        (429, TooManyRequests, True),
        (503, ApiError, True),
        (400, ApiError, False),
    ],
)
def test_a_refusal_is_what_its_status_says(status: int, kind: type[ApiError], *, transient: bool) -> None:
    error = api_error(action="get pods a/p", status=status, body=b'{"reason": "Why", "message": "because"}')
    assert (type(error), str(error)) == (kind, f"get pods a/p: {status} Why: because")
    assert error.is_transient is transient


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            429,
            b'{"reason": "TooManyRequests", "details": {"causes": [{"reason": "DisruptionBudget"}]}}',
        ),
        (500, b'{"message": "This pod has more than one PodDisruptionBudget, which is not supported.", "code": 500}'),
    ],
)
def test_a_refusal_for_the_sake_of_disruption_budgets_is_no_failure_of_the_api_server(status: int, body: bytes) -> None:
    assert type(api_error(action="evict pods a/p", status=status, body=body)) is EvictionRefused


def test_a_refusal_without_json_is_told_as_it_is() -> None:
    error = api_error(action="get pods a/p", status=502, body=b"<html>bad gateway</html>\n")
    assert str(error) == "get pods a/p: 502 refused: <html>bad gateway</html>"


def test_a_refusal_may_say_in_its_body_when_to_come_back() -> None:
    error = api_error(action="x", status=429, body=b'{"details": {"retryAfterSeconds": 3}}')
    assert error.retry_after == 3


async def test_a_token_is_read_again_when_it_is_old() -> None:
    now = 0.0
    tokens = iter("ab")
    token = BearerToken(lambda: next(tokens), clock=lambda: now)
    assert [await token.get(), await token.get()] == ["a", "a"]
    now = TOKEN_AGE + 1
    assert await token.get() == "b"


def test_a_service_account_without_its_files_is_refused(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(CredentialsError, match=f"^The service account in {tmp_path} cannot be used: "):
        service_account(tmp_path, environment)


class Thing(msgspec.Struct, frozen=True):
    metadata: dict[str, str]


def thing(name: str, *, uid: str = "u", version: int = 1) -> Thing:
    return Thing({"name": name, "uid": uid, "resourceVersion": str(version)})


def a_store() -> Store[Thing]:
    """Things named `foreign-…` are none of ours."""

    def ours(item: bytes) -> Thing | None:
        read = codec.decode(item, Thing)
        return None if read.metadata["name"].startswith("foreign") else read

    return Store(ours)


def applied(store: Store[Thing], each: Thing) -> list[Change[Thing]]:
    return store.take(store.stage(codec.encode(each)))


def relist(store: Store[Thing], *things: Thing) -> list[Change[Thing]]:
    changes = store.keep_only({ObjectKey("", each.metadata["name"]) for each in things})
    return changes + [change for each in things for change in applied(store, each)]


def test_a_list_tells_what_changed_since_the_last_one() -> None:
    store = a_store()
    same, old, new = thing("same"), thing("changed"), thing("changed", version=2)
    assert relist(store, same, old, thing("gone")) == [Applied(same), Applied(old), Applied(thing("gone"))]
    assert relist(store, same, new, thing("added")) == [
        Deleted(thing("gone")),
        Applied(new),
        Applied(thing("added")),
    ]
    assert list(store.objects.values()) == [same, new, thing("added")]


def test_a_new_object_of_the_same_name_follows_the_end_of_the_old_one() -> None:
    store = a_store()
    old, new = thing("a", uid="1"), thing("a", uid="2", version=9)
    relist(store, old)
    assert relist(store, new) == [Deleted(old), Applied(new)]


def test_the_same_version_twice_is_told_once() -> None:
    store = a_store()
    assert relist(store, thing("a")) == [Applied(thing("a"))]
    assert applied(store, thing("a")) == []


def test_the_end_of_an_object_that_was_never_seen_is_told() -> None:
    assert a_store().delete(codec.encode(thing("a"))) == [Deleted(thing("a"))]


def test_nothing_is_kept_of_what_is_none_of_ours() -> None:
    store, foreign = a_store(), thing("foreign-a")
    assert relist(store, foreign, thing("a")) == [Applied(thing("a"))]
    assert store.delete(codec.encode(foreign)) == []
    assert list(store.objects.values()) == [thing("a")]


def limited(quantity: str) -> bytes:
    limits = {"resources": {"limits": {VRAM_RESOURCE: quantity}}}
    return b'{"metadata": %b, "spec": ' + codec.encode({"containers": [limits]}) + b"}"


UNREADABLE = {
    "no UTF-8": b'{"metadata": %b, "spec": {"nodeName": "\xff"}}',
    "fewer slices than none": limited("-4"),
    "more slices than memory has bytes": limited("1e99"),
    "slices that are no number": limited("Ki"),
    "a time of no zone": b'{"metadata": %b, "status": {"startTime": "0001-01-01T00:00:00"}}',
}


@pytest.mark.parametrize("written", UNREADABLE.values(), ids=UNREADABLE)
def test_a_pod_that_nobody_can_read_is_counted_and_stays_as_it_was(
    written: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(lambda item: codec.decode(item, Pod))
    store.take(store.stage(b'{"metadata": {"name": "b", "namespace": "team", "resourceVersion": "1"}}'))
    readable = store.objects[ObjectKey("team", "b")]
    now = written % b'{"name": "b", "namespace": "team", "resourceVersion": "2"}'
    assert store.take(store.stage(now)) == []
    assert store.objects == {ObjectKey("team", "b"): readable}
    assert "object skipped object=team/b error=not a Pod: " in caplog.text
    assert store.unreadable == 1
    assert store.delete(now) == [Deleted(readable)]


def test_what_fails_at_one_object_is_told_of_that_one_alone(caplog: pytest.LogCaptureFixture) -> None:
    def read(item: bytes) -> Thing:
        read = codec.decode(item, Thing)
        if read.metadata["name"] == "odd":
            raise ZeroDivisionError("nobody thought of this")
        return read

    store = Store(read)
    assert relist(store, thing("odd"), thing("plain")) == [Applied(thing("plain"))]
    assert store.delete(codec.encode(thing("odd"))) == []
    assert store.unreadable == 2
    assert "object skipped object=odd error=nobody thought of this" in caplog.text


def test_what_is_staged_is_taken_in_later() -> None:
    store = a_store()
    staged = store.stage(codec.encode(thing("a")))
    assert list(store.objects) == []
    assert store.take(staged) == [Applied(thing("a"))]
    assert store.take(store.stage(codec.encode(thing("a")))) == []


async def test_a_token_that_cannot_be_had_is_an_api_server_that_cannot_be_reached() -> None:
    def plugin() -> str:
        raise ZeroDivisionError("the cloud is away")

    credentials = Credentials(server="http://127.0.0.1:1", ssl=None, token=BearerToken(plugin))
    async with KubeClient(credentials, component="test") as client:
        with pytest.raises(
            Unreachable, match=r"^get pods a/p: no token for the API server: the cloud is away$"
        ) as error:
            await client.get(PODS, "p", namespace="a", within=0.05)
    assert error.value.never_sent
