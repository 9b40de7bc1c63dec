"""An API server that keeps everything in memory: for loads that a real one, with etcd, does not take on this machine.

It speaks what Arbiter's clients and kopf use (lists in pages, watches that continue, merge patches, bindings,
evictions, preconditions), and checks nothing else: no schema, no admission, no rights. Every write of the operator
becomes a line of the audit log. `python -m tests.bench.api_stand_in --port PORT --audit-log FILE` serves until it is
ended. Imports aiohttp and msgspec; nothing of Arbiter but the names of its kinds.
"""

import argparse
import asyncio
import itertools
import re
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

import msgspec
from aiohttp import web

from arbiter_kube.api.resources import (
    EVENTS,
    GPU_ALLOCATIONS,
    GPU_NODES,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    QUALITY_POLICIES,
    Resource,
)

Json = dict[str, Any]
Key = tuple[str, str]

KINDS: list[Resource[Any]] = [
    *(PODS, NODES, NAMESPACES, EVENTS, LEASES),
    *(GPU_ALLOCATIONS, QUALITY_POLICIES, GPU_NODES),
]
REMEMBERED = 100_000
"""Changes of one kind that a watch may continue from."""

BOOKMARK_SECONDS = 30.0

_PATH = re.compile(
    r"(?P<root>/api/v1|/apis/[^/]+/[^/]+)(/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[^/]+)"
    r"(/(?P<name>[^/]+))?(/(?P<subresource>[^/]+))?"
)


class RefusedError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(slots=True)
class Change:
    """One line of a watch; `node` is that of a pod."""

    version: int
    node: str
    line: bytes


@dataclass(slots=True)
class Shelf:
    """The objects of one kind, as JSON and ready to be sent."""

    objects: dict[Key, Json] = field(default_factory=dict)
    texts: dict[Key, msgspec.Raw] = field(default_factory=dict)
    changes: deque[Change] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    watches: set[asyncio.Queue[Change]] = field(default_factory=set)


class Store:
    """All kinds, with one version for all of them."""

    def __init__(self) -> None:
        self.version = 1
        self.shelves: dict[str, Shelf] = defaultdict(Shelf)

    def create(self, plural: str, namespace: str, body: Json) -> msgspec.Raw:
        """A new object."""
        metadata = body.setdefault("metadata", {})
        key = (namespace, metadata["name"])
        if key in self.shelves[plural].objects:
            raise RefusedError(409, "AlreadyExists")
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata |= {"uid": str(uuid4()), "creationTimestamp": created, "generation": 1}
        if namespace:
            metadata["namespace"] = namespace
        return self._put(plural, key, body, "ADDED")

    def patch(self, plural: str, key: Key, change: Json, *, status: bool) -> msgspec.Raw:
        """A merge patch of the status, or of everything else."""
        known = self.known(plural, key)
        asked, metadata = change.get("metadata") or {}, known["metadata"]
        for precondition in ("uid", "resourceVersion"):
            if precondition in asked and asked[precondition] != metadata[precondition]:
                raise RefusedError(409, "Conflict")
        merged = merge(known, {"status": change["status"]} if status else change)
        if "spec" in change and not status:
            merged["metadata"] = merged["metadata"] | {"generation": metadata["generation"] + 1}
        return self._put(plural, key, merged, "MODIFIED")

    def bind(self, key: Key, binding: Json) -> None:
        """What the API server makes of a Binding."""
        change = {
            "metadata": {"annotations": binding["metadata"].get("annotations") or {}},
            "spec": {"nodeName": binding["target"]["name"]},
        }
        self.patch("pods", key, change, status=False)

    def delete(self, plural: str, key: Key) -> msgspec.Raw:
        """At once, whatever its grace."""
        body = self.known(plural, key)
        shelf = self.shelves[plural]
        text = self._put(plural, key, body, "DELETED")
        del shelf.objects[key], shelf.texts[key]
        return text

    def known(self, plural: str, key: Key) -> Json:
        """The object."""
        try:
            return self.shelves[plural].objects[key]
        except KeyError:
            raise RefusedError(404, "NotFound") from None

    def _put(self, plural: str, key: Key, body: Json, kind: str) -> msgspec.Raw:
        self.version += 1
        body["metadata"] = body["metadata"] | {"resourceVersion": str(self.version)}
        shelf, text = self.shelves[plural], msgspec.Raw(msgspec.json.encode(body))
        shelf.objects[key], shelf.texts[key] = body, text
        node = (body.get("spec") or {}).get("nodeName", "") if plural == "pods" else ""
        change = Change(self.version, node, b'{"type":"%s","object":%s}\n' % (kind.encode(), bytes(text)))
        shelf.changes.append(change)
        for watch in shelf.watches:
            watch.put_nowait(change)
        return text


def merge(known: Json, change: Json) -> Json:
    """RFC 7386, without changing what is known."""
    merged = dict(known)
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            before = merged.get(name)
            merged[name] = merge(before if isinstance(before, dict) else {}, value)
        else:
            merged[name] = value
    return merged


class StandIn:
    """The HTTP face of a store."""

    def __init__(self, audit_log: TextIO) -> None:
        self._store = Store()
        self._audit_log = audit_log

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request."""
        if (found := discovery(request.path)) is not None:
            return web.json_response(found)
        asked = _PATH.fullmatch(request.path)
        if asked is None:
            return refusal(RefusedError(404, "NotFound"))
        try:
            if request.method == "GET" and asked["name"] is None:
                return await self._many(request, asked)
            return web.Response(body=await self._one(request, asked), content_type="application/json")
        except RefusedError as error:
            return refusal(error)

    async def _one(self, request: web.BaseRequest, asked: re.Match[str]) -> bytes:
        plural, key = asked["plural"], (asked["namespace"] or "", asked["name"] or "")
        if request.method == "GET":
            return bytes(msgspec.json.encode(self._store.known(plural, key)))
        body = msgspec.json.decode(await request.read() or b"{}")
        text = self._write(request.method, asked, key, body, rehearsed="dryRun" in request.query)
        if request.headers.get("User-Agent", "").startswith("arbiter-operator"):
            self._audit(request.method, plural, key[1])
        return bytes(text)

    def _write(self, method: str, asked: re.Match[str], key: Key, body: Json, *, rehearsed: bool) -> bytes:
        store, plural = self._store, asked["plural"]
        match method, asked["subresource"]:
            case "POST", None:
                return bytes(store.create(plural, key[0], body))
            case "POST", "binding":
                store.bind(key, body)
            case "POST", "eviction":
                store.known(plural, key) if rehearsed else store.delete(plural, key)
            case "PATCH", subresource:
                return bytes(store.patch(plural, key, body, status=subresource == "status"))
            case "DELETE", None:
                return bytes(store.delete(plural, key))
            case _:
                raise RefusedError(405, "MethodNotAllowed")
        return b'{"kind":"Status","status":"Success"}'

    def _audit(self, method: str, plural: str, name: str) -> None:
        about = {"resource": plural, "name": name}
        line = {"verb": method.lower(), "stageTimestamp": datetime.now(UTC), "objectRef": about}
        self._audit_log.write(msgspec.json.encode(line).decode() + "\n")
        self._audit_log.flush()

    async def _many(self, request: web.BaseRequest, asked: re.Match[str]) -> web.StreamResponse:
        node = request.query.get("fieldSelector", "").removeprefix("spec.nodeName=")
        shelf = self._store.shelves[asked["plural"]]
        if request.query.get("watch"):
            return await self._watch(request, shelf, node)
        start, limit = int(request.query.get("continue", "0")), int(request.query.get("limit", "0"))
        chosen = [key for key in shelf.objects if (not node or shelf.objects[key]["spec"].get("nodeName") == node)]
        if asked["namespace"]:
            chosen = [key for key in chosen if key[0] == asked["namespace"]]
        page = chosen[start : start + limit] if limit else chosen
        more = {"continue": str(start + limit)} if limit and start + limit < len(chosen) else {}
        body = {
            "kind": "List",
            "metadata": {"resourceVersion": str(self._store.version), **more},
            "items": [shelf.texts[key] for key in page],
        }
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    async def _watch(self, request: web.BaseRequest, shelf: Shelf, node: str) -> web.StreamResponse:
        since, queue = int(request.query.get("resourceVersion") or 0), asyncio.Queue[Change]()
        if shelf.changes and len(shelf.changes) == REMEMBERED and since < shelf.changes[0].version:
            raise RefusedError(410, "Expired")
        for change in shelf.changes:
            if change.version > since:
                queue.put_nowait(change)
        shelf.watches.add(queue)
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"".join([*await self._lines(queue, node)]))
        except ConnectionError:
            return response
        finally:
            shelf.watches.discard(queue)

    async def _lines(self, queue: asyncio.Queue[Change], node: str) -> Iterator[bytes]:
        """What there is by now, at least a bookmark."""
        try:
            first = await asyncio.wait_for(queue.get(), BOOKMARK_SECONDS)
        except TimeoutError:
            object_ = {"metadata": {"resourceVersion": str(self._store.version)}}
            return iter((msgspec.json.encode({"type": "BOOKMARK", "object": object_}) + b"\n",))
        rest = (queue.get_nowait() for _ in range(queue.qsize()))
        return (one.line for one in itertools.chain((first,), rest) if not node or one.node == node)


def refusal(error: RefusedError) -> web.Response:
    """The API server's Status."""
    status = {"kind": "Status", "status": "Failure", "reason": error.reason, "message": error.reason}
    return web.json_response(status | {"code": error.status}, status=error.status)


def discovery(path: str) -> Json | None:
    """What kopf asks for before it watches."""
    by_root: dict[str, list[Resource[Any]]] = defaultdict(list)
    for kind in KINDS:
        by_root[f"/apis/{kind.api_version}" if kind.group else "/api/v1"].append(kind)
    match path:
        case "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
        case "/api":
            return {"versions": ["v1"]}
        case "/apis":
            groups = {kind.group: kind for kind in KINDS if kind.group}
            return {"groups": [_group(kind) for kind in groups.values()]}
        case _ if path in by_root:
            return {"resources": [_described(kind) for kind in by_root[path]]}
    return None


def _group(kind: Resource[Any]) -> Json:
    version = {"groupVersion": kind.api_version, "version": kind.version}
    return {"name": kind.group, "versions": [version], "preferredVersion": version}


def _described(kind: Resource[Any]) -> Json:
    verbs = ["create", "delete", "get", "list", "patch", "watch"]
    names = {"name": kind.plural, "singularName": kind.kind.lower(), "kind": kind.kind, "shortNames": []}
    return names | {"namespaced": kind.namespaced, "verbs": verbs}


async def serve(port: int, audit_log: Path) -> None:
    """Until it is cancelled."""
    with audit_log.open("a") as log:
        runner = web.ServerRunner(web.Server(StandIn(log).handle))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--audit-log", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.audit_log))
