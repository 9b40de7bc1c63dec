"""Asks the API server for everything that the doctor looks at; what may not be read is a reason, and no failure."""

import asyncio
import time
from collections.abc import Awaitable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TypeVar

import yaml
from cryptography import x509

from arbiter_cli.access import Access
from arbiter_cli.doctor.admission import WEBHOOK
from arbiter_cli.doctor.facts import Certificate, CrdState, Facts, Trial, Unread
from arbiter_cli.doctor.kinds import (
    BINDINGS,
    CRDS,
    POLICIES,
    PRIORITY_CLASSES,
    REVIEWS,
    SECRETS,
    SETS,
    WEBHOOKS,
    Crd,
    Secret,
    WebhookConfiguration,
)
from arbiter_cli.doctor.latency import quantile
from arbiter_cli.doctor.rights import RIGHTS, Right
from arbiter_cli.kinds import OPERATOR
from arbiter_cli.snapshot import read_snapshot
from arbiter_kube.api import GROUP, SCHEDULER_NAME, VERSION
from arbiter_kube.api import annotations as a
from arbiter_kube.api.crds import manifests
from arbiter_kube.api.objects import Lease, Pod
from arbiter_kube.api.resources import LEASES, PODS
from arbiter_kube.client import ApiError, Forbidden, NotFound, Unreachable, UnreadableError

T = TypeVar("T")

_TRIALS = 3

_EXTENDERS = "app.kubernetes.io/part-of=arbiter,app.kubernetes.io/component=scheduler"

_METRICS_PORT = 8080
"""Of every process of ours in a pod."""

_POD_ANSWERS_WITHIN = 2.0
"""Seconds: an API server that cannot reach pods asks for longer than anybody wants to wait."""

_UNANSWERED = "failed calling webhook"
"""What the API server says of a webhook that it cannot reach."""


async def read_facts(access: Access, *, namespace: str) -> Facts:
    """Everything; `namespace` is where Arbiter is installed, the access's where a pod is tried.

    Raises:
        Unreachable: the API server went away.
    """
    client, within = access.client, access.within
    # One after another: the trial measures, and nothing else should be in its way.
    crds = await _try(client.list(CRDS, within=within))
    webhook = await _try(_webhook(access))
    secrets = await _try(
        client.list(SECRETS, namespace=namespace, field_selector="type=kubernetes.io/tls", within=within)
    )
    return Facts(
        at=datetime.now(UTC),
        namespace=namespace,
        own_version=version("arbiter"),
        version=access.version,
        crds=crds if isinstance(crds, Unread) else _compared(crds),
        lease=await _try(_lease(access, namespace)),
        deployments=await _try(client.list(SETS, namespace=namespace, within=within)),
        filter_p99=await _try(_filter_p99(access, namespace)),
        webhook=webhook,
        trial=await _try(_trial(access)),
        certificates=_certificates(webhook, secrets),
        admission_policies=await _try(_bound_policies(access)),
        priority_classes=await _try(client.list(PRIORITY_CLASSES, within=within)),
        missing_rights=await _try(_missing_rights(access, namespace)),
        snapshot=await _try(read_snapshot(access)),
    )


async def _try(answer: Awaitable[T]) -> T | Unread:
    try:
        return await answer
    except Forbidden as error:
        return Unread(f"you may not: {error.message}")
    except NotFound as error:
        return Unread(f"not there: {error.message.strip()}")
    except (ApiError, UnreadableError) as error:
        return Unread(str(error))


def _compared(served: Iterable[Crd]) -> dict[str, CrdState]:
    """This version's CRDs, and whether they are what the cluster has."""
    known = {crd.metadata.name: crd for crd in served}
    states = {}
    for text in manifests().values():
        ours = yaml.safe_load(text)
        name, (wanted,) = ours["metadata"]["name"], ours["spec"]["versions"]
        versions = known[name].spec.versions if name in known else ()
        found = next((one for one in versions if one.name == VERSION and one.served), None)
        if found is None:
            states[name] = CrdState.MISSING
        else:
            states[name] = CrdState.SAME if found.schema == wanted["schema"] else CrdState.DIFFERENT
    return states


async def _lease(access: Access, namespace: str) -> Lease | None:
    try:
        return await access.client.get(LEASES, OPERATOR, namespace=namespace, within=access.within)
    except NotFound:
        return None


async def _filter_p99(access: Access, namespace: str) -> float | None:
    """Of all replicas together: only that beside the leading kube-scheduler is asked."""
    pods = await access.client.list(
        PODS,
        namespace=namespace,
        label_selector=_EXTENDERS,
        field_selector="status.phase=Running",
        within=access.within,
    )
    within = min(access.within, _POD_ANSWERS_WITHIN)
    asked = (access.client.ask_pod(pod.key, port=_METRICS_PORT, path="/metrics", within=within) for pod in pods)
    try:
        texts = [answer.decode() for answer in await asyncio.gather(*asked)]
        return quantile(texts, "arbiter_extender_request_seconds", share=0.99, verb="filter")
    # No answer of a pod is none of the API server.
    except (Unreachable, ValueError) as error:
        raise UnreadableError(f"the extender's metrics cannot be read: {error}") from error


async def _webhook(access: Access) -> WebhookConfiguration | None:
    try:
        return await access.client.get(WEBHOOKS, WEBHOOK, within=access.within)
    except NotFound:
        return None


async def _bound_policies(access: Access) -> frozenset[str]:
    """Names of the policies whose binding, which is called the same, is there as well."""
    policies = await access.client.list(POLICIES, within=access.within)
    bindings = await access.client.list(BINDINGS, within=access.within)
    return frozenset({one.metadata.name for one in policies} & {one.metadata.name for one in bindings})


async def _trial(access: Access) -> Trial:
    """Creates two pods without creating them, some times, of which the quickest counts."""
    opted_in = {a.WORKLOAD_TYPE: "LlmInference", a.PRIORITY: "Background"}
    plain, plain_took = await _quickest(access, {})
    try:
        admitted, opted_took = await _quickest(access, opted_in)
    except ApiError as error:
        if _UNANSWERED not in error.message:
            raise
        return Trial(
            plain=plain_took, opted_in=0.0, plain_untouched=True, opted_in_admitted=False, failure=error.message
        )
    touched = plain.spec.scheduler_name == SCHEDULER_NAME or any(
        key.startswith(GROUP) for key in plain.metadata.annotations
    )
    return Trial(
        plain=plain_took,
        opted_in=opted_took,
        plain_untouched=not touched,
        opted_in_admitted=a.DEMAND in admitted.metadata.annotations,
    )


async def _quickest(access: Access, annotations: dict[str, str]) -> tuple[Pod, float]:
    took = []
    for _ in range(_TRIALS):
        started = time.perf_counter()
        pod = await access.client.create(
            PODS, _pod(annotations), namespace=access.namespace, dry_run=True, within=access.within
        )
        took.append(time.perf_counter() - started)
    return pod, min(took)


def _pod(annotations: dict[str, str]) -> dict[str, object]:
    """One that the strictest namespace admits."""
    sizes = {"cpu": "1m", "memory": "1Mi"}
    container = {
        "name": "doctor",
        "image": "none",
        "resources": {"requests": sizes, "limits": sizes},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "metadata": {"generateName": "arbiter-doctor-", "annotations": annotations},
        "spec": {"containers": [container], "securityContext": security, "automountServiceAccountToken": False},
    }


async def _missing_rights(access: Access, namespace: str) -> tuple[str, ...]:
    asked = [(right, verb) for right in RIGHTS for verb in right.verbs]
    answers = await asyncio.gather(*(_is_allowed(access, right, verb, namespace) for right, verb in asked))
    return tuple(
        f"{right.account} may not {verb} {right.resource}{f'.{right.group}' if right.group else ''}"
        for (right, verb), allowed in zip(asked, answers, strict=True)
        if not allowed
    )


async def _is_allowed(access: Access, right: Right, verb: str, namespace: str) -> bool:
    resource, _, subresource = right.resource.partition("/")
    attributes = {"verb": verb, "group": right.group, "resource": resource, "subresource": subresource}
    attributes |= {"name": right.name} | ({} if right.everywhere else {"namespace": namespace})
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    user = f"system:serviceaccount:{namespace}:{right.account}"
    spec = {"user": user, "groups": groups, "resourceAttributes": attributes}
    review = await access.client.create(REVIEWS, {"spec": spec}, within=access.within)
    return review.status.allowed


def _certificates(
    webhook: WebhookConfiguration | Unread | None, secrets: tuple[Secret, ...] | Unread
) -> tuple[Certificate, ...] | Unread:
    """Those in the webhook's configuration and, for who may read them, in the installation's Secrets."""
    pems: list[tuple[str, bytes]] = []
    if isinstance(webhook, WebhookConfiguration):
        pems += [(f"webhook {hook.name}'s authority", hook.client_config.ca_bundle) for hook in webhook.webhooks]
    if not isinstance(secrets, Unread):
        pems += [(f"secret {one.metadata.name}", one.data.get("tls.crt", b"")) for one in secrets]
    try:
        return tuple(
            Certificate(of=of, expires=certificate.not_valid_after_utc)
            for of, pem in pems
            if pem
            for certificate in x509.load_pem_x509_certificates(pem)
        )
    except ValueError as error:
        return Unread(f"they cannot be read: {error}")
