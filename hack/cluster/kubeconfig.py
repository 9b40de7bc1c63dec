"""Renders kubeconfig files. Imports PyYAML only."""

import base64
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class ClientCertificate:
    """A user that the API server knows by its certificate; both in PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class Token:
    """A service account's bearer token."""

    value: str


def render(*, server: str, authority: bytes, credential: ClientCertificate | Token, namespace: str = "default") -> str:
    """Returns a kubeconfig for one user of one cluster; `authority` is the CA's certificate in PEM."""
    cluster = {"server": server, "certificate-authority-data": _base64(authority)}
    context = {"cluster": "arbiter", "user": "arbiter", "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "arbiter", "cluster": cluster}],
        "users": [{"name": "arbiter", "user": _user(credential)}],
        "contexts": [{"name": "arbiter", "context": context}],
        "current-context": "arbiter",
    }
    return yaml.safe_dump(document, sort_keys=False)


def write(path: Path, text: str) -> Path:
    """Writes a kubeconfig that only its owner can read, whole or not at all, and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.rename(path)
    return path


def _user(credential: ClientCertificate | Token) -> dict[str, str]:
    if isinstance(credential, Token):
        return {"token": credential.value}
    return {
        "client-certificate-data": _base64(credential.certificate),
        "client-key-data": _base64(credential.key),
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
