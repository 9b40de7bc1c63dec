"""What we ask of the kubelet: to know us, and who holds which slices."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import grpc

from arbiter_deviceplugin._proto.deviceplugin.v1beta1 import api_pb2 as plugin_api
from arbiter_deviceplugin._proto.deviceplugin.v1beta1 import api_pb2_grpc as plugin_grpc
from arbiter_deviceplugin._proto.podresources.v1 import api_pb2 as resources_api
from arbiter_deviceplugin._proto.podresources.v1 import api_pb2_grpc as resources_grpc
from arbiter_deviceplugin.matching import ListedContainer
from arbiter_deviceplugin.slices import SliceId
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api.objects import ObjectKey

API_VERSION = "v1beta1"

_REGISTER_LIMIT = 15.0
"""The kubelet dials back inside the call and allows itself 10 s for that."""

_CREDENTIALS = struct.Struct("3i")
"""Process, user and group, as the kernel hands them out."""

_LIST_LIMIT = 2.0
_LIST_BYTES = 16 << 20


class KubeletError(Exception):
    """The kubelet does not answer, or refuses."""


class Kubelet:
    """One node's kubelet, by its directory (``/var/lib/kubelet``)."""

    def __init__(self, directory: Path) -> None:
        self.plugins = directory / "device-plugins"
        self.socket = self.plugins / "kubelet.sock"
        self._resources = directory / "pod-resources" / "kubelet.sock"

    def process(self) -> int | None:
        """The kubelet's process id: 0 where our namespace of processes has none for it, None while it does not listen.

        Blocking. The kernel tells of a socket who listens there.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_LIST_LIMIT)
            try:
                connection.connect(str(self.socket))
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            except OSError:
                return None
        process, _, _ = _CREDENTIALS.unpack(credentials)
        return int(process)

    async def register(self, endpoint: str) -> None:
        """Makes our socket, a name in the plugins' directory, known for our resource.

        Raises:
            KubeletError: it does not answer or refuses.
        """
        options = plugin_api.DevicePluginOptions(pre_start_required=True, get_preferred_allocation_available=True)
        request = plugin_api.RegisterRequest(
            version=API_VERSION, endpoint=endpoint, resource_name=VRAM_RESOURCE, options=options
        )
        try:
            async with _channel(self.socket) as channel:
                await plugin_grpc.RegistrationStub(channel).Register(request, timeout=_REGISTER_LIMIT)
        except grpc.aio.AioRpcError as error:
            raise KubeletError(f"kubelet at {self.socket} did not register us: {error.details()}.") from error

    async def containers(self) -> tuple[ListedContainer, ...]:
        """Every container that the kubelet lists, with its slices of our resource.

        Never call it while an Allocate is answered: the kubelet would then drop the slices that it is giving out.

        Raises:
            KubeletError: it does not answer in time.
        """
        try:
            async with _channel(self._resources) as channel:
                stub = resources_grpc.PodResourcesListerStub(channel)
                answer = await stub.List(resources_api.ListPodResourcesRequest(), timeout=_LIST_LIMIT)
        except grpc.aio.AioRpcError as error:
            raise KubeletError(f"kubelet at {self._resources} did not list its pods: {error.details()}.") from error
        return tuple(_containers(answer))


def _channel(socket: Path) -> grpc.aio.Channel:
    options = [
        # gRPC's own default, the socket's path, is no host name: servers written in other languages refuse it.
        ("grpc.default_authority", "localhost"),
        # Else a new channel would inherit the back-off that an earlier one earned while the kubelet was away.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", _LIST_BYTES),
    ]
    return grpc.aio.insecure_channel(f"unix://{socket}", options=options)


def _containers(answer: resources_api.ListPodResourcesResponse) -> Iterator[ListedContainer]:
    for pod in answer.pod_resources:
        key = ObjectKey(pod.namespace, pod.name)
        for container in pod.containers:
            ours = (device for device in container.devices if device.resource_name == VRAM_RESOURCE)
            slices = frozenset(SliceId(identifier) for device in ours for identifier in device.device_ids)
            yield ListedContainer(key, container.name, slices)
