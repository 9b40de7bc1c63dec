"""The API server's verbs, typed by resource.

Own code rather than the `kubernetes` package's client: a fraction of its memory and a multiple of its speed (typed
structs instead of generated models), watches whose silence is noticed, and a bound on every call.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPMethod
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from arbiter.ids import NodeName, PodUid
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.resources import PODS, Resource
from arbiter_kube.client import codec
from arbiter_kube.client.credentials import Credentials, find_credentials
from arbiter_kube.client.transport import Request, Transport

T = TypeVar("T")

TIMEOUT = 15.0
"""Seconds that a call may take in all, repetitions included."""


class PatchType(StrEnum):
    """How a patch is meant; values are its content types."""

    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects of a kind are meant; everything left out selects all."""

    namespace: str | None = None
    label_selector: str | None = None
    field_selector: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """The selectors as URL parameters."""
        selectors = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {key: value for key, value in selectors.items() if value}


class ListMeta(msgspec.Struct, rename="camel"):
    """The version of a list, and the token for what follows: empty on the last page."""

    resource_version: str = ""
    token: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct):
    """A part of a list, its items not yet decoded."""

    metadata: ListMeta
    items: list[msgspec.Raw] | None = None


class ServerVersion(msgspec.Struct, frozen=True, rename="camel"):
    """The API server's version: ``v1.36.3``; some clouds add a sign to the minor number."""

    git_version: str
    major: str
    minor: str


class KubeClient:
    """One connection pool to one API server; an async context manager, or `close()` it.

    Every call raises KubeError: ApiError's kinds where the API server refuses, Unreachable where no answer came,
    UnreadableError where the answer is not the object that it should be. No call takes longer than `within` seconds:
    reads are repeated until then where they may succeed later, writes only where it is certain that nothing was done.
    """

    def __init__(self, credentials: Credentials, *, component: str) -> None:
        """`component` names us in audit logs and as field manager, for example ``arbiter-operator``."""
        self._component = component
        self._transport = Transport(credentials, user_agent=f"{component}/{version('arbiter')}")

    @classmethod
    async def connect(cls, kubeconfig: Path | None = None, *, component: str) -> Self:
        """A client for the given kubeconfig file, else for the cluster we run in, else for the usual kubeconfig.

        Raises:
            CredentialsError: none of them can be used.
        """
        return cls(await asyncio.to_thread(find_credentials, kubeconfig), component=component)

    async def close(self) -> None:
        """Ends every connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def server_version(self, *, within: float = TIMEOUT) -> ServerVersion:
        """What Kubernetes the API server is; it says so to everybody who may ask it anything."""
        request = Request(action="get version", method=HTTPMethod.GET, path="/version")
        return codec.decode(await self._transport.send(request, within=within), ServerVersion)

    async def get(
        self, resource: Resource[T], name: str, *, namespace: str | None = None, within: float = TIMEOUT
    ) -> T:
        """One object.

        Raises:
            NotFound: it does not exist.
        """
        request = _on(resource, HTTPMethod.GET, action="get", namespace=namespace, name=name)
        return codec.decode(await self._transport.send(request, within=within), resource.model)

    async def list(
        self,
        resource: Resource[T],
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        within: float = TIMEOUT,
    ) -> tuple[T, ...]:
        """Every selected object at this moment; a Reflector follows them."""
        selection = Selection(namespace=namespace, label_selector=label_selector, field_selector=field_selector)
        page = await self.page(resource, selection, within=within)
        return tuple(codec.decode(item, resource.model) for item in page.items or ())

    async def create(
        self,
        resource: Resource[T],
        body: object,
        *,
        namespace: str | None = None,
        dry_run: bool = False,
        within: float = TIMEOUT,
    ) -> T:
        """Creates an object; `body` (plain data or a model) needs no apiVersion and kind.

        With `dry_run` nothing is created: the answer is what admission would make of it.

        Raises:
            Conflict: the name is taken.
            Invalid, Forbidden: validation or admission refuses.
        """
        text = codec.manifest(body, api_version=resource.api_version, kind=resource.kind)
        query = {"dryRun": "All"} if dry_run else {}
        request = _on(resource, HTTPMethod.POST, action="create", namespace=namespace, query=query, body=text)
        return codec.decode(await self._transport.send(request, within=within), resource.model)

    async def patch(
        self,
        resource: Resource[T],
        name: str,
        body: object,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        kind: PatchType = PatchType.MERGE,
        force: bool = False,
        within: float = TIMEOUT,
    ) -> T:
        """Changes an object, or with PatchType.APPLY makes it so; `force` takes over fields that others applied.

        There is no replace: our models leave fields out, which writing back would delete. A merge patch that holds
        `metadata.resourceVersion` has the same precondition.

        Raises:
            NotFound: it does not exist (an apply creates it, without a subresource).
            Conflict: the resource version is another by now, or another manager applied a field.
            Invalid, Forbidden: validation or admission refuses.
        """
        query = {"fieldManager": self._component}
        if kind is PatchType.APPLY:
            text = codec.manifest(body, api_version=resource.api_version, kind=resource.kind)
            query["force"] = str(force).lower()
        else:
            text = codec.encode(body)
        request = _on(
            resource,
            HTTPMethod.PATCH,
            action="patch",
            namespace=namespace,
            name=name,
            subresource=subresource,
            query=query,
            body=text,
            content_type=kind.value,
        )
        return codec.decode(await self._transport.send(request, within=within), resource.model)

    async def delete(
        self,
        resource: Resource[T],
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        grace: int | None = None,
        within: float = TIMEOUT,
    ) -> None:
        """Deletes an object, only that with this `uid` if given; `grace` (s) overrides a pod's own.

        Raises:
            NotFound: it does not exist.
            Conflict: it has another uid.
        """
        options = _only(uid) | ({} if grace is None else {"gracePeriodSeconds": grace})
        request = _on(
            resource,
            HTTPMethod.DELETE,
            action="delete",
            namespace=namespace,
            name=name,
            body=codec.encode(options),
        )
        await self._transport.send(request, within=within)

    async def bind(
        self,
        pod: ObjectKey,
        *,
        uid: PodUid,
        node: NodeName,
        annotations: Mapping[str, str],
        within: float = TIMEOUT,
    ) -> None:
        """Binds a pod to a node and adds `annotations` to it, in one step; no other pod of that name is touched.

        Raises:
            NotFound: the pod is gone.
            Conflict: it is bound already, or has another uid.
            Unreachable: the reply was lost; look the pod up unless the error says `never_sent`.
        """
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": uid, "annotations": annotations},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        request = _on(
            PODS,
            HTTPMethod.POST,
            action="bind",
            namespace=pod.namespace,
            name=pod.name,
            subresource="binding",
            body=codec.encode(binding),
        )
        await self._transport.send(request, within=within)

    async def evict(
        self, pod: ObjectKey, *, uid: PodUid | None = None, dry_run: bool = False, within: float = TIMEOUT
    ) -> None:
        """Deletes a pod unless a PodDisruptionBudget protects it; with `uid` only that very pod.

        With `dry_run` nothing is deleted, and the answer is the same.

        Raises:
            EvictionRefused: a PodDisruptionBudget protects it now, or there are several.
            NotFound: the pod is gone.
            Conflict: it has another uid.
        """
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": pod.namespace, "name": pod.name},
            "deleteOptions": _only(uid),
        }
        request = _on(
            PODS,
            HTTPMethod.POST,
            action="evict",
            namespace=pod.namespace,
            name=pod.name,
            subresource="eviction",
            query={"dryRun": "All"} if dry_run else {},
            body=codec.encode(eviction),
        )
        await self._transport.send(request, within=within)

    async def ask_pod(self, pod: ObjectKey, *, port: int, path: str, within: float = TIMEOUT) -> bytes:
        """What a pod answers to a GET of `path` on `port`, asked by the API server, which needs the right pods/proxy.

        Raises:
            Forbidden: that right is missing.
            ApiError: the pod does not answer, or with a refusal.
        """
        proxy = PODS.path(namespace=pod.namespace, name=f"{pod.name}:{port}", subresource="proxy")
        request = Request(action=f"ask pods {pod}", method=HTTPMethod.GET, path=proxy + path)
        return await self._transport.send(request, within=within)

    async def page(
        self,
        resource: Resource[T],
        selection: Selection,
        *,
        limit: int | None = None,
        token: str = "",
        within: float = TIMEOUT,
    ) -> Page:
        """At most `limit` objects, those after the page that gave `token`.

        Raises:
            Gone: the token is too old.
        """
        query = selection.query | ({"limit": str(limit)} if limit else {}) | ({"continue": token} if token else {})
        request = _on(resource, HTTPMethod.GET, action="list", namespace=selection.namespace, query=query)
        return codec.decode(await self._transport.send(request, within=within), Page)

    def watch(
        self,
        resource: Resource[T],
        selection: Selection,
        *,
        resource_version: str,
        lasting: float,
        idle: float,
    ) -> AsyncGenerator[bytes]:
        """Lines of JSON, one for each thing that happened since `resource_version`, bookmarks included.

        The API server ends it after `lasting` seconds; `idle` seconds without a byte count as a lost connection.

        Raises:
            Gone: the version is too old.
            Unreachable: the connection was lost.
        """
        query = selection.query | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(int(lasting)),
        }
        request = _on(resource, HTTPMethod.GET, action="watch", namespace=selection.namespace, query=query)
        return self._transport.stream(request, idle=idle)


def _on(
    resource: Resource[T],
    method: HTTPMethod,
    *,
    action: str,
    namespace: str | None = None,
    name: str | None = None,
    subresource: str | None = None,
    query: Mapping[str, str] | None = None,
    body: bytes | None = None,
    content_type: str = "application/json",
) -> Request:
    where = "/".join(part for part in (namespace, name) if part)
    return Request(
        action=" ".join(part for part in (action, resource.plural, where) if part),
        method=method,
        path=resource.path(namespace=namespace, name=name, subresource=subresource),
        query=query or {},
        body=body,
        content_type=content_type,
        accept=resource.accept(is_list=action == "list"),
    )


def _only(uid: str | None) -> dict[str, object]:
    return {"preconditions": {"uid": uid}} if uid else {}
