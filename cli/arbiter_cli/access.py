"""How people's commands reach a cluster: kubectl's flags, and one sentence where it cannot be reached or asked.

Imports the client; its `kubernetes` package only for a command that needs a cluster.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from arbiter_cli import candidates
from arbiter_cli.arguments import completed
from arbiter_cli.errors import InputError
from arbiter_kube.api import GROUP
from arbiter_kube.client import (
    ApiError,
    CredentialsError,
    Forbidden,
    KubeClient,
    KubeError,
    NotFound,
    ServerVersion,
    Unreachable,
)
from arbiter_kube.client.credentials import Credentials, find_credentials

_FIRST_ANSWER = 3.0
"""Seconds within which an API server says its version, or is taken for unreachable."""

_LONGEST = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A cluster that answers: `namespace` is the one that is meant, `within` seconds the time for each question."""

    client: KubeClient
    server: str
    version: ServerVersion
    namespace: str
    within: float


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """--kubeconfig, --context, --namespace and --request-timeout, as kubectl has them."""
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="kubeconfig file (default: as kubectl)")
    context = parser.add_argument(
        "--context", metavar="NAME", help="context of the kubeconfig file (default: the current one)"
    )
    namespace = parser.add_argument("-n", "--namespace", metavar="NAMESPACE", help="namespace (default: the context's)")
    completed(context, candidates.contexts)
    completed(namespace, candidates.namespaces)
    parser.add_argument(
        "--request-timeout",
        type=_seconds,
        default=15.0,
        metavar="SECONDS",
        help="how long the API server may take for one answer (default: %(default)g)",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f'"{text}" is no time; write seconds such as 15')
    return seconds


def ask(arguments: argparse.Namespace, question: Callable[[Access], Awaitable[int]]) -> int:
    """The exit code that `question` comes to.

    Raises:
        InputError: the cluster cannot be reached, or refuses to answer.
    """
    try:
        credentials = find_credentials(arguments.kubeconfig, context=arguments.context)
    except CredentialsError as error:
        raise InputError(str(error)) from error
    try:
        return asyncio.run(_ask(credentials, arguments, question))
    except KubeError as error:
        raise InputError(sentence(error, server=credentials.server)) from error


async def _ask(
    credentials: Credentials, arguments: argparse.Namespace, question: Callable[[Access], Awaitable[int]]
) -> int:
    async with KubeClient(credentials, component="arbiter-cli") as client:
        within = arguments.request_timeout
        version = await client.server_version(within=min(_FIRST_ANSWER, within))
        return await question(
            Access(
                client=client,
                server=credentials.server,
                version=version,
                namespace=arguments.namespace or credentials.namespace,
                within=within,
            )
        )


def sentence(error: KubeError, *, server: str) -> str:
    """What kept the API server's answer away, and what to do."""
    if isinstance(error, Unreachable):
        reason = str(error).rpartition("no answer from the API server: ")[2]
        return f"the API server {server} does not answer ({reason}); start the cluster, or name another --context."
    if (isinstance(error, NotFound) and GROUP in error.action + error.message) or _lacks_kinds(error):
        return f"the API server {server} serves no {GROUP}; install Arbiter (arbiter doctor says what is missing)."
    if isinstance(error, Forbidden):
        return f"{error.message}; ask for this right, or use another --context."
    if isinstance(error, ApiError) and error.status == 401:
        return f"the API server {server} does not know you; log in anew, or use another --context."
    return f"{error}."


def _lacks_kinds(error: KubeError) -> bool:
    """Whether it was asked for objects of a kind that it does not know."""
    return isinstance(error, NotFound) and error.message.startswith(("404 page not found", "the server could not find"))
