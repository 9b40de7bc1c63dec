"""kopf, set up for this operator: settings, credentials, and the handlers that wake the engine.

Only `on.event`: kopf then writes nothing of its own, and every event is a reason to look, never a task of its own.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import kopf
from pydantic import BaseModel, ValidationError

from arbiter_kube.api import GROUP, VERSION
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.objects import ObjectKey
from arbiter_kube.api.qualitypolicy import QualityPolicy
from arbiter_kube.api.resources import GPU_ALLOCATIONS, QUALITY_POLICIES
from arbiter_kube.client.credentials import Credentials
from arbiter_kube.client.health import Bind
from arbiter_kube.client.transport import connector
from arbiter_operator.admission.webhook import HANDLER, PodAdmission
from arbiter_operator.cluster import Cluster
from arbiter_operator.feed import Feed

CERTIFICATE_INTERVAL = 10.0
"""Seconds between two looks at whether the webhook's certificate was renewed."""

_LISTED, _DELETED = None, "DELETED"
"""Types of kopf's events: what its watch began with, and what ended."""

Model = TypeVar("Model", bound=BaseModel)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """Where the webhook listens, and its certificate and key in PEM; kopf reads renewed files by itself."""

    bind: Bind
    certificate: Path
    key: Path


def settings(webhook: WebhookEndpoint, *, listening: asyncio.Event) -> kopf.OperatorSettings:
    """kopf's settings, each chosen against a way in which operators were seen to fail.

    `listening` is set once the webhook is served.
    """
    chosen = kopf.OperatorSettings()
    # Peering freezes everybody when two have one priority, and any team's object named "default" can pause us.
    chosen.peering.standalone = True
    # A connection that died silently is noticed, and a renewed watch does not begin with minutes of back-off.
    chosen.watching.server_timeout = 600
    chosen.watching.connect_timeout = 5
    chosen.networking.request_timeout = 15
    chosen.networking.connect_timeout = 5
    # What outlasts these ends the process, which then starts anew.
    chosen.networking.error_backoffs = [1, 1, 2, 3, 5, 8, 13, 21, 30, 30]
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.execution.max_workers = 2
    chosen.process.ultimate_exiting_timeout = 25
    chosen.admission.server = _server(webhook, listening)
    return chosen


class _Refusals(logging.Filter):
    """Drops kopf's error lines of pods that were refused: a refusal is an answer, and logged as one by the webhook."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(f"Webhook '{HANDLER}' failed permanently")


def quieten_logs() -> None:
    """Leaves out a line per event and per admission, which say nothing."""
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    objects = logging.getLogger("kopf.objects")
    objects.setLevel(logging.WARNING)
    objects.addFilter(_Refusals())


def _server(webhook: WebhookEndpoint, listening: asyncio.Event) -> kopf.WebhookServerProtocol:
    served = kopf.WebhookServer(
        addr=webhook.bind.host,
        port=webhook.bind.port,
        certfile=webhook.certificate,
        pkeyfile=webhook.key,
        file_check_interval=CERTIFICATE_INTERVAL,
    )

    async def serve(decide: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        async for configuration in served(decide):
            listening.set()
            yield configuration

    return serve


def registry(
    cluster: Cluster, *, feed: Feed, admission: PodAdmission, credentials: Credentials, wake: Callable[[], None]
) -> kopf.OperatorRegistry:
    """The handlers: events of our two kinds, pods that are created, and the way to the API server."""
    handlers = kopf.OperatorRegistry()
    admission.register(handlers)

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=credentials.server, aiohttp_session=_session(credentials))

    @kopf.on.event(GROUP, VERSION, GPU_ALLOCATIONS.plural, registry=handlers)
    async def allocation_changed(type: str | None, body: kopf.Body, **_: Any) -> None:
        if type is _LISTED:
            feed.watch_began_anew()
        if type == _DELETED:
            key = ObjectKey(body.metadata.namespace or "", body.metadata.name or "")
            cluster.allocation_deleted(key, uid=body.metadata.uid)
        elif (allocation := _read(GpuAllocation, body)) is not None:
            cluster.allocation_applied(allocation)
        wake()

    @kopf.on.event(GROUP, VERSION, QUALITY_POLICIES.plural, registry=handlers)
    async def policy_changed(type: str | None, body: kopf.Body, **_: Any) -> None:
        if type is _LISTED:
            feed.watch_began_anew()
        if type == _DELETED:
            cluster.policy_deleted(body.metadata.name or "", uid=body.metadata.uid)
        elif (policy := _read(QualityPolicy, body)) is not None:
            cluster.policy_applied(policy)
        wake()

    return handlers


def _read(model: type[Model], body: kopf.Body) -> Model | None:
    try:
        return model.model_validate(dict(body))
    except ValidationError as error:
        # The API server's schema refuses these; one that was stored under an older schema keeps its last readable form.
        _log.warning("object skipped object=%s/%s error=%s", body.metadata.namespace, body.metadata.name, error)
        return None


def _session(credentials: Credentials) -> aiohttp.ClientSession:
    """kopf's way to the API server: with our credentials, so that kubeconfigs and rotated tokens work alike."""

    async def authorize(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        token = await credentials.token.get()
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return await send(request)

    return aiohttp.ClientSession(connector=connector(credentials), middlewares=(authorize,))
