"""Names of objects for a shell that completes them; none where the cluster does not answer at once."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from arbiter_cli.explain.names import WORDS, Kind
from arbiter_cli.kinds import DAEMON_SETS, DEPLOYMENTS, JOBS, REPLICA_SETS, STATEFUL_SETS
from arbiter_kube.api.annotations import DEMAND
from arbiter_kube.api.objects import PartialObject
from arbiter_kube.api.resources import GPU_ALLOCATIONS, GPU_NODES, NAMESPACES, PODS, Resource
from arbiter_kube.client import KubeClient, KubeError
from arbiter_kube.client.credentials import find_credentials

_PATIENCE = 2.0
"""Seconds that somebody at a prompt waits."""

_NAMED: dict[Kind, Resource[Any]] = {  # of every model
    Kind.POD: PODS,
    Kind.ALLOCATION: GPU_ALLOCATIONS,
    Kind.DEPLOYMENT: DEPLOYMENTS,
    Kind.REPLICA_SET: REPLICA_SETS,
    Kind.STATEFUL_SET: STATEFUL_SETS,
    Kind.DAEMON_SET: DAEMON_SETS,
    Kind.JOB: JOBS,
    Kind.NODE: GPU_NODES,
}


def subjects(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """``pod/``, and once that is written the names of what can be explained."""
    kind, slash, _rest = prefix.partition("/")
    if not slash:
        return [f"{word}/" for word in sorted(WORDS)] if prefix else [f"{word}/" for word in Kind]
    known = WORDS.get(kind)
    if known is None:
        return []
    names = _asked(parsed_args, _gpus if known is Kind.GPU else lambda client, ns: _names(client, ns, known))
    return [f"{kind}/{name}" for name in names]


def namespaces(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Every namespace."""

    async def names(client: KubeClient, _namespace: str) -> list[str]:
        return [one.metadata.name for one in await client.list(NAMESPACES, within=_PATIENCE)]

    return _asked(parsed_args, names)


def contexts(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """The contexts of the kubeconfig file."""
    path = parsed_args.kubeconfig or os.environ.get("KUBECONFIG") or Path("~/.kube/config").expanduser()
    try:
        written = yaml.safe_load(Path(path).read_text())
        return [context["name"] for context in written["contexts"]]
    except (OSError, yaml.YAMLError, LookupError, TypeError):
        return []


def _asked(parsed: argparse.Namespace, question: Callable[[KubeClient, str], Awaitable[list[str]]]) -> list[str]:
    async def answer() -> list[str]:
        credentials = find_credentials(parsed.kubeconfig, context=parsed.context)
        async with KubeClient(credentials, component="arbiter-cli") as client:
            return await question(client, parsed.namespace or credentials.namespace)

    try:
        return asyncio.run(answer())
    except KubeError:
        return []


async def _names(client: KubeClient, namespace: str, kind: Kind) -> list[str]:
    resource: Resource[PartialObject] = replace(_NAMED[kind], model=PartialObject)
    found = await client.list(resource, namespace=namespace, within=_PATIENCE)
    return [one.metadata.name for one in found if kind is not Kind.POD or DEMAND in one.metadata.annotations]


async def _gpus(client: KubeClient, _namespace: str) -> list[str]:
    reports = await client.list(GPU_NODES, within=_PATIENCE)
    return [f"{report.metadata.name}/{gpu.index}" for report in reports for gpu in report.status.gpus]
