"""The kubelet's side of the device plugin and pod-resources APIs: real gRPC over real unix sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from arbiter_deviceplugin._proto.deviceplugin.v1beta1 import api_pb2 as plugin_api
from arbiter_deviceplugin._proto.deviceplugin.v1beta1 import api_pb2_grpc as plugin_grpc
from arbiter_deviceplugin._proto.podresources.v1 import api_pb2 as resources_api
from arbiter_deviceplugin._proto.podresources.v1 import api_pb2_grpc as resources_grpc

_Context = grpc.aio.ServicerContext[Any, Any]

_OPTIONS = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]


@dataclass(slots=True)
class Container:
    """A container that was admitted, with what Allocate answered."""

    namespace: str
    pod: str
    name: str
    ids: tuple[str, ...] = ()
    preferred: tuple[str, ...] = ()
    allocated: plugin_api.ContainerAllocateResponse = field(default_factory=plugin_api.ContainerAllocateResponse)

    @property
    def directory(self) -> Path:
        return Path(self.allocated.mounts[0].host_path)


class FakeKubelet(plugin_grpc.RegistrationServicer, resources_grpc.PodResourcesListerServicer):
    """Restarting it wipes the plugins' sockets, as the real one does; it forgets no container."""

    def __init__(self, directory: Path) -> None:
        self.plugins = directory / "device-plugins"
        self._resources = directory / "pod-resources"
        self.containers: dict[tuple[str, str], Container] = {}
        self.endpoints: list[str] = []
        self.devices: dict[str, str] = {}
        self.lists = 0
        self.asked_in_allocate = 0
        self.refusals = 0
        self._is_allocating = False
        self._servers: list[grpc.aio.Server] = []
        self._streams: set[asyncio.Task[None]] = set()
        self._channel: grpc.aio.Channel | None = None
        for path in (self.plugins, self._resources):
            path.mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        for path in self.plugins.iterdir():
            if path.is_socket():
                path.unlink()
        registration, resources = grpc.aio.server(), grpc.aio.server()
        plugin_grpc.add_RegistrationServicer_to_server(self, registration)
        resources_grpc.add_PodResourcesListerServicer_to_server(self, resources)
        for server, directory in ((registration, self.plugins), (resources, self._resources)):
            server.add_insecure_port(f"unix://{directory / 'kubelet.sock'}")
            await server.start()
            self._servers.append(server)

    async def stop(self) -> None:
        for task in self._streams:
            task.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
        for server in self._servers:
            await server.stop(None)
        self._servers.clear()
        self._streams.clear()
        self.devices = {}

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    @property
    def healthy(self) -> set[str]:
        return {identifier for identifier, health in self.devices.items() if health == "Healthy"}

    @property
    def streams(self) -> int:
        return sum(not task.done() for task in self._streams)

    async def Register(self, request: plugin_api.RegisterRequest, context: _Context) -> plugin_api.Empty:
        """Dials back before it answers, as the real one does."""
        if self.refusals:
            self.refusals -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        assert request.version == "v1beta1"
        assert request.resource_name == "arbiter.infernum.io/vram"
        channel = grpc.aio.insecure_channel(f"unix://{self.plugins / request.endpoint}", options=_OPTIONS)
        options = await plugin_grpc.DevicePluginStub(channel).GetDevicePluginOptions(plugin_api.Empty(), timeout=10)
        assert options.pre_start_required
        assert options.get_preferred_allocation_available
        self._channel = channel
        self.endpoints.append(request.endpoint)
        self._streams.add(asyncio.create_task(self._listen(channel)))
        return plugin_api.Empty()

    async def _listen(self, channel: grpc.aio.Channel) -> None:
        try:
            async for answer in plugin_grpc.DevicePluginStub(channel).ListAndWatch(plugin_api.Empty()):
                self.lists += 1
                self.devices = {device.ID: device.health for device in answer.devices}
        except grpc.aio.AioRpcError:
            pass  # the plugin ended; what it offered is not healthy any more
        if self._channel is channel:
            self.devices = dict.fromkeys(self.devices, "Unhealthy")

    async def List(
        self, request: resources_api.ListPodResourcesRequest, context: _Context
    ) -> resources_api.ListPodResourcesResponse:
        self.asked_in_allocate += self._is_allocating
        answer = resources_api.ListPodResourcesResponse()
        for container in self.containers.values():
            pod = answer.pod_resources.add(name=container.pod, namespace=container.namespace)
            listed = pod.containers.add(name=container.name)
            if container.ids:
                listed.devices.add(resource_name="arbiter.infernum.io/vram", device_ids=container.ids)
        return answer

    async def admit(self, namespace: str, pod: str, *, size: int, name: str = "main") -> Container:
        """GetPreferredAllocation, then Allocate; the answer of the former is honoured as it is."""
        container = self.containers[namespace, pod] = Container(namespace, pod, name)
        in_use = {identifier for other in self.containers.values() for identifier in other.ids}
        question = plugin_api.ContainerPreferredAllocationRequest(
            available_deviceIDs=sorted(self.healthy - in_use, reverse=True), allocation_size=size
        )
        stub = self._stub()
        preferred = await stub.GetPreferredAllocation(
            plugin_api.PreferredAllocationRequest(container_requests=[question]), timeout=5
        )
        container.preferred = tuple(preferred.container_responses[0].deviceIDs)
        self._is_allocating = True
        allocated = await stub.Allocate(
            plugin_api.AllocateRequest(
                container_requests=[plugin_api.ContainerAllocateRequest(devices_ids=container.preferred)]
            ),
            timeout=5,
        )
        self._is_allocating = False
        container.ids = container.preferred
        container.allocated = allocated.container_responses[0]
        return container

    async def prestart(self, container: Container) -> str:
        """The refusal's text, empty when the container may start."""
        request = plugin_api.PreStartContainerRequest(devices_ids=container.ids)
        try:
            await self._stub().PreStartContainer(request, timeout=30)
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name
        return ""

    def forget(self, container: Container) -> None:
        """The pod is gone from the kubelet's books: its ids are free."""
        del self.containers[container.namespace, container.pod]

    def _stub(self) -> "plugin_grpc.DevicePluginAsyncStub":
        assert self._channel is not None, "no plugin is registered"
        return plugin_grpc.DevicePluginStub(self._channel)


@asynccontextmanager
async def fake_kubelet(directory: Path) -> AsyncIterator[FakeKubelet]:
    kubelet = FakeKubelet(directory)
    await kubelet.start()
    try:
        yield kubelet
    finally:
        await kubelet.stop()
