"""A renewed certificate of the webhook is served without a restart."""

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from arbiter_kube.client.health import Bind
from arbiter_operator import framework
from arbiter_operator.framework import WebhookEndpoint, settings
from hack.cluster.pki import Authority
from tests.component.operator.support import eventually, free_port


class Volume:
    """Certificate and key as the kubelet puts a Secret into a pod: both change with one link."""

    def __init__(self, directory: Path) -> None:
        self._authority = Authority(directory / "authority")
        self.path = directory / "tls"

    def renew(self, name: str) -> str:
        """Another certificate from now on; returns it as PEM."""
        pair = self._authority.issue(name, common_name="webhook", hosts=("127.0.0.1",))
        version = self.path.with_name(name)
        version.mkdir()
        (version / "tls.crt").write_bytes(pair.certificate.read_bytes())
        (version / "tls.key").write_bytes(pair.key.read_bytes())
        link = self.path.with_name("next")
        link.symlink_to(version)
        os.replace(link, self.path)
        return pair.certificate.read_text()


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


async def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("Nobody is admitted here.")


async def test_a_renewed_certificate_is_served_without_a_restart(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framework, "CERTIFICATE_INTERVAL", 0.05)
    first, listening = volume.renew("first"), asyncio.Event()
    bind = Bind("127.0.0.1", free_port())
    endpoint = WebhookEndpoint(bind=bind, certificate=volume.path / "tls.crt", key=volume.path / "tls.key")
    server = settings(endpoint, listening=listening).admission.server

    assert server is not None
    served = server(refuse)

    async def serve() -> None:
        async for _ in served:
            pass

    async def shown(certificate: str) -> bool | None:
        try:
            found = await asyncio.to_thread(ssl.get_server_certificate, (bind.host, bind.port))
        except OSError:
            return None  # kopf listens anew with the new one
        return True if certificate.startswith(found) else None

    serving = asyncio.create_task(serve())
    await listening.wait()
    assert await eventually(lambda: shown(first), "first certificate")

    second = volume.renew("second")
    assert await eventually(lambda: shown(second), "renewed certificate")
    assert first != second

    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
