"""Where the API server is and how to prove who asks.

A service account needs a few lines of our own. A kubeconfig file goes through the `kubernetes` package: it knows the
credential plugins of managed clusters, which is what that dependency, an extra, is here for. It is imported only then,
since it costs half a second and 40 MB.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arbiter_kube.client.errors import KubeError

if TYPE_CHECKING:
    from kubernetes.client import Configuration

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

TOKEN_AGE = 60.0
"""Seconds after which a token is read again: kubelet replaces it at 80 % of its life, which is 10 minutes or more."""


class CredentialsError(KubeError):
    """The way to the API server is not configured, or wrongly; the text says where it was looked for."""


class BearerToken:
    """A token that is read again from time to time, because it rotates."""

    def __init__(self, read: Callable[[], str | None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._value: str | None = None
        self._read_at: float | None = None

    async def get(self) -> str | None:
        """The token, at most a minute old; None where a client certificate speaks for us."""
        if self._read_at is None or self._clock() - self._read_at > TOKEN_AGE:
            # In a thread: a credential plugin is a program that may ask its cloud.
            self._value = await asyncio.to_thread(self._read)
            self._read_at = self._clock()
        return self._value


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The API server's URL, how to trust it, and how it trusts us. `ssl` is None for plain http.

    `namespace` is the one that is meant where nobody names one.
    """

    server: str
    ssl: ssl.SSLContext | None
    token: BearerToken
    tls_server_name: str | None = None
    namespace: str = "default"


def find_credentials(kubeconfig: Path | None, *, context: str | None = None) -> Credentials:
    """The given file's, else the service account's, else those of KUBECONFIG or ~/.kube/config.

    `context` names one of a kubeconfig file's instead of its current one.

    Raises:
        CredentialsError: there are none, or they cannot be read.
    """
    if kubeconfig is None and context is None and (SERVICE_ACCOUNT / "token").exists():
        return service_account(SERVICE_ACCOUNT, os.environ)
    return from_kubeconfig(kubeconfig, context=context)


def service_account(directory: Path, environ: Mapping[str, str]) -> Credentials:
    """Those that kubelet mounts into every pod.

    Raises:
        CredentialsError: the environment or the directory lacks something.
    """
    try:
        host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
        context = ssl.create_default_context(cafile=directory / "ca.crt")
    except (KeyError, OSError) as error:
        raise CredentialsError(f"The service account in {directory} cannot be used: {error} is missing.") from error
    return Credentials(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ssl=context,
        token=BearerToken(lambda: (directory / "token").read_text().strip()),
        namespace=_own_namespace(directory),
    )


def _own_namespace(directory: Path) -> str:
    # Only people's commands need it, and those that run in a pod are few: no reason to fail.
    path = directory / "namespace"
    return path.read_text().strip() if path.exists() else "default"


def from_kubeconfig(path: Path | None, *, context: str | None = None) -> Credentials:
    """Those of a kubeconfig file's context, the current one unless named; None for the usual places.

    Raises:
        CredentialsError: there is no such file, or it is no kubeconfig, or what reads it is not installed.
    """
    try:
        from kubernetes.client import Configuration  # noqa: PLC0415 - costs 40 MB, not needed in the cluster
        from kubernetes.config import (  # noqa: PLC0415 - the same
            ConfigException,
            list_kube_config_contexts,
            load_kube_config,
        )
        from yaml import YAMLError  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        raise CredentialsError(
            "There is no service account here, and the package kubernetes, which reads kubeconfig files, is not "
            "installed; install it with: pip install 'arbiter[cli]'"
        ) from error

    where = path or os.environ.get("KUBECONFIG") or "~/.kube/config"
    configuration = Configuration()
    try:
        load_kube_config(config_file=str(path) if path else None, context=context, client_configuration=configuration)
        tls = _tls(configuration) if configuration.host.startswith("https") else None
        contexts, current = list_kube_config_contexts(str(path) if path else None)
        chosen = current if context is None else next(known for known in contexts if known["name"] == context)
    except (ConfigException, YAMLError, OSError, ValueError, TypeError, AttributeError) as error:
        # The last two are what the loader raises for YAML of another shape; YAML's own errors have several lines.
        reason = " ".join(str(error).split())
        raise CredentialsError(f"{where} cannot be used as a kubeconfig file: {reason}") from error
    return Credentials(
        server=configuration.host.rstrip("/"),
        ssl=tls,
        token=BearerToken(lambda: _token(configuration)),
        tls_server_name=configuration.tls_server_name or None,
        namespace=chosen["context"].get("namespace") or "default",
    )


def _tls(configuration: "Configuration") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


def _token(configuration: "Configuration") -> str | None:
    # The hook behind this call runs the credential plugin again when its token has expired.
    key: str | None = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    return key.removeprefix("Bearer ") if key else None
