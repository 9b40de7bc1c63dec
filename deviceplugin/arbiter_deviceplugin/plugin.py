"""The kubelet's five questions, translated: which slices there are, which to prefer, what goes with them, may it start.

Nothing is refused in GetPreferredAllocation or Allocate: an error there fails the pod for good. What may pass is waited
for in PreStartContainer, which the kubelet asks again and again.
"""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from arbiter_deviceplugin._proto.deviceplugin.v1beta1 import api_pb2 as api
from arbiter_deviceplugin._proto.deviceplugin.v1beta1 import api_pb2_grpc
from arbiter_deviceplugin.access import GpuAccess, access
from arbiter_deviceplugin.admission import Admission, HandedOut, StartRefusedError
from arbiter_deviceplugin.carrier import Carrier
from arbiter_deviceplugin.directory import TOOLS
from arbiter_deviceplugin.offer import Offer
from arbiter_deviceplugin.slices import Slice, SliceId

_log = logging.getLogger(__name__)

_MOUNT_POINT = "/run/arbiter"

_Context = grpc.aio.ServicerContext[Any, Any]


class Plugin(api_pb2_grpc.DevicePluginServicer):
    """The service. `gpu_access` is by what the runtime learns of a container's GPUs; None where it shows none.

    `tools` is the directory on the host with what containers may execute.
    """

    def __init__(
        self, *, offer: Offer, admission: Admission, carrier: Carrier, gpu_access: GpuAccess | None, tools: Path
    ) -> None:
        self._offer = offer
        self._admission = admission
        self._carrier = carrier
        self._gpu_access = gpu_access
        self._tools = tools

    @property
    def is_watched(self) -> bool:
        """Whether a kubelet listens to the list of slices."""
        return self._offer.is_watched

    async def GetDevicePluginOptions(self, request: api.Empty, context: _Context) -> api.DevicePluginOptions:
        """Says that we want to be asked for preferences and before starts."""
        return api.DevicePluginOptions(pre_start_required=True, get_preferred_allocation_available=True)

    async def ListAndWatch(self, request: api.Empty, context: _Context) -> AsyncIterator[api.ListAndWatchResponse]:
        """Streams the whole list whenever it changes."""
        async for slices in self._offer.changes():
            _log.info("slices told count=%d healthy=%d", len(slices), sum(slice_.healthy for slice_ in slices))
            yield slice_list(slices)

    async def GetPreferredAllocation(
        self, request: api.PreferredAllocationRequest, context: _Context
    ) -> api.PreferredAllocationResponse:
        """Names slices of the GPUs that the pod was assigned."""
        answers = []
        for question in request.container_requests:
            chosen = await self._admission.prefer(
                _slices(question.available_deviceIDs),
                required=_slices(question.must_include_deviceIDs),
                size=question.allocation_size,
            )
            answers.append(api.ContainerPreferredAllocationResponse(deviceIDs=chosen))
        return api.PreferredAllocationResponse(container_responses=answers)

    async def Allocate(self, request: api.AllocateRequest, context: _Context) -> api.AllocateResponse:
        """Hands out a fresh directory, and the GPUs as the runtime takes them."""
        handed_out = [
            await self._admission.allocate(_slices(question.devices_ids)) for question in request.container_requests
        ]
        return api.AllocateResponse(container_responses=[self._response(given) for given in handed_out])

    async def PreStartContainer(
        self, request: api.PreStartContainerRequest, context: _Context
    ) -> api.PreStartContainerResponse:
        """Answers once the container may start."""
        try:
            identified = await self._admission.identify(_slices(request.devices_ids))
            await self._carrier.start(identified)
        except StartRefusedError as error:
            _log.info("start refused why=%s", error)
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return api.PreStartContainerResponse()

    def _response(self, given: HandedOut) -> api.ContainerAllocateResponse:
        shown = access(self._gpu_access, given.gpus)
        # Two mounts, since hosts often forbid to execute what lies under /run.
        mounts = [
            api.Mount(container_path=_MOUNT_POINT, host_path=str(given.path), read_only=True),
            api.Mount(container_path=f"{_MOUNT_POINT}/{TOOLS}", host_path=str(self._tools), read_only=True),
            *(api.Mount(container_path=inside, host_path=host, read_only=True) for inside, host in shown.mounts),
        ]
        return api.ContainerAllocateResponse(
            envs={"ARBITER_DIR": _MOUNT_POINT, **dict(shown.environment)},
            mounts=mounts,
            cdi_devices=[api.CDIDevice(name=name) for name in shown.cdi],
        )


def _slices(identifiers: Any) -> tuple[SliceId, ...]:
    return tuple(SliceId(identifier) for identifier in identifiers)


def slice_list(slices: tuple[Slice, ...]) -> api.ListAndWatchResponse:
    """The list as the kubelet is sent it."""
    return api.ListAndWatchResponse(
        devices=[api.Device(ID=slice_.id, health="Healthy" if slice_.healthy else "Unhealthy") for slice_ in slices]
    )
