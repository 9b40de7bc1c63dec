"""A client of the real API server, a cable to it that can be cut, and reflectors in the background."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from arbiter_kube.api.resources import NAMESPACES
from arbiter_kube.client import KubeClient, Reflector
from arbiter_kube.client.credentials import from_kubeconfig
from hack.cluster.controlplane import ControlPlane
from tests.component.kube.support import Cable, Follow, Followed


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(control_plane.admin_kubeconfig, component="test") as client:
        yield client


@pytest.fixture
async def namespace(client: KubeClient) -> str:
    """A namespace of the test's own."""
    made = await client.create(NAMESPACES, {"metadata": {"name": f"test-{secrets.token_hex(4)}"}})
    return made.metadata.name


@pytest.fixture
async def cable(control_plane: ControlPlane) -> AsyncIterator[Cable]:
    cable = Cable(control_plane.place.ports.apiserver)
    await cable.open()
    yield cable
    await cable.cut()


@pytest.fixture
async def distant(control_plane: ControlPlane, cable: Cable) -> AsyncIterator[KubeClient]:
    """A client at the other end of the cable."""
    credentials = replace(from_kubeconfig(control_plane.admin_kubeconfig), server=f"https://127.0.0.1:{cable.port}")
    client = KubeClient(credentials, component="test")
    async with client:
        yield client


@pytest.fixture
async def follow() -> AsyncIterator[Follow]:
    async with AsyncExitStack() as stack:

        def start(reflector: Reflector[Any]) -> Followed[Any]:
            followed = Followed(reflector)
            stack.push_async_callback(followed.stop)
            return followed

        yield start
