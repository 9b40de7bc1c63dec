"""Keeps the plugin known to the kubelet: serves its socket and registers it, again and again where that is needed.

The kubelet wipes the directory of sockets when it starts, and a gRPC server does not notice that its own is gone. So
both are looked at all the time. Each server has a socket name of its own, because gRPC removes a socket by its name
when a server stops; and the old server ends before the new one registers, because the kubelet drops whatever is
registered when the stream of an older one ends.
"""

import asyncio
import logging
import math
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from arbiter_deviceplugin._proto.deviceplugin.v1beta1 import api_pb2_grpc
from arbiter_deviceplugin.kubelet import Kubelet, KubeletError
from arbiter_deviceplugin.metrics import REGISTRATIONS
from arbiter_deviceplugin.plugin import Plugin
from arbiter_kube.client.backoff import Backoff

_log = logging.getLogger(__name__)

_LOOK_INTERVAL = 0.1
_STREAM_PATIENCE = 5.0
"""How long a registration may go without the kubelet listening to our list before it counts as lost."""

_PREFIX = "arbiter-"
_NAME_BYTES = 6


@dataclass(frozen=True, slots=True)
class _Endpoint:
    server: grpc.aio.Server
    socket: Path


class Registrar:
    """`run()` never returns; a kubelet that is away is waited for."""

    def __init__(self, kubelet: Kubelet, plugin: Plugin) -> None:
        self._kubelet = kubelet
        self._plugin = plugin
        self._backoff = Backoff(first=0.1, ceiling=5.0)

    async def run(self) -> None:
        """Serves and registers until it is cancelled."""
        await asyncio.to_thread(_remove_leftovers, self._kubelet.plugins)
        while True:
            endpoint = await self._serve()
            try:
                await self._register_while_served(endpoint)
            finally:
                await endpoint.server.stop(None)
                _log.info("plugin socket ended socket=%s", endpoint.socket.name)

    async def _serve(self) -> _Endpoint:
        """A server on a new socket, as soon as the kubelet's directory is there."""
        while not self._kubelet.plugins.is_dir():
            _log.warning("kubelet's directory is missing path=%s", self._kubelet.plugins)
            await asyncio.sleep(self._backoff.next())
        socket = self._kubelet.plugins / f"{_PREFIX}{secrets.token_hex(_NAME_BYTES)}.sock"
        # The kubelet sends every free id with a question; its own limit does not bind us.
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        api_pb2_grpc.add_DevicePluginServicer_to_server(self._plugin, server)
        server.add_insecure_port(f"unix://{socket}")
        await server.start()
        return _Endpoint(server, socket)

    async def _register_while_served(self, endpoint: _Endpoint) -> None:
        """Returns when a new socket is needed."""
        while endpoint.socket.exists():
            kubelet = _identity(self._kubelet.socket)
            try:
                await self._kubelet.register(endpoint.socket.name)
            except KubeletError as error:
                REGISTRATIONS.labels("failed").inc()
                _log.warning("not registered error=%s", error)
                await self._pause(kubelet)
                continue
            REGISTRATIONS.labels("registered").inc()
            _log.info("registered socket=%s", endpoint.socket.name)
            why = await self._until_lost(endpoint, kubelet)
            _log.warning("registration lost why=%s", why)
            if kubelet != _identity(self._kubelet.socket):
                return
            await asyncio.sleep(self._backoff.next())

    async def _until_lost(self, endpoint: _Endpoint, kubelet: tuple[int, int] | None) -> str:
        clock = asyncio.get_running_loop().time
        listened_at = clock()
        while True:
            await asyncio.sleep(_LOOK_INTERVAL)
            if _identity(self._kubelet.socket) != kubelet:
                return "another kubelet"
            if not endpoint.socket.exists():
                return "own socket removed"
            if self._plugin.is_watched:
                listened_at = clock()
                self._backoff.reset()
            elif clock() - listened_at > _STREAM_PATIENCE:
                return "nobody listens"

    async def _pause(self, kubelet: tuple[int, int] | None) -> None:
        """Waits before the next try, but no longer than until a new kubelet is there."""
        for _ in range(math.ceil(self._backoff.next() / _LOOK_INTERVAL)):
            await asyncio.sleep(_LOOK_INTERVAL)
            if _identity(self._kubelet.socket) != kubelet:
                return


def longest_socket(kubelet: Kubelet) -> Path:
    """A socket path as long as ours are, to be checked against the kernel's limit before the start."""
    return kubelet.plugins / f"{_PREFIX}{'0' * 2 * _NAME_BYTES}.sock"


def _identity(socket: Path) -> tuple[int, int] | None:
    """Changes whenever the socket is made anew, though an inode's number may be used again; None: it is missing."""
    with suppress(OSError):
        stat = socket.stat()
        return stat.st_ino, stat.st_ctime_ns
    return None


def _remove_leftovers(plugins: Path) -> None:
    """Removes the sockets of our former lives: the DaemonSet runs one plugin at a time."""
    for socket in plugins.glob(f"{_PREFIX}*.sock"):
        socket.unlink(missing_ok=True)
