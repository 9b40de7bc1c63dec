"""The admission webhook: reads the GpuAllocation that a pod names, lets `decision` decide, and answers through kopf."""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import kopf
import msgspec

from arbiter.demand import DemandDefaults
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.objects import ObjectKey, Pod
from arbiter_kube.api.resources import GPU_ALLOCATIONS
from arbiter_kube.client import KubeClient, KubeError, NotFound
from arbiter_operator.admission.decision import Named, allocation_named, decide
from arbiter_operator.admission.errors import RefusedError

HANDLER = "pods"
"""The last part of the webhook's URL: kopf lets everything pass that is sent to another."""

LOOKUP_SECONDS = 1.5
"""For each of at most two reads; the API server waits 5 s for the answer."""

_FORBIDDEN, _UNAVAILABLE = 403, 503

_OBJECT_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
"""Any other text stands for no object, and in a URL perhaps for something else: nothing for the whole list."""

_log = logging.getLogger(__name__)


class PodAdmission:
    """Decides on the pods that are created."""

    def __init__(
        self,
        client: KubeClient,
        *,
        known: Mapping[ObjectKey, GpuAllocation],
        defaults: Callable[[], DemandDefaults],
        unit: int,
    ) -> None:
        """`known` holds the allocations that this process has heard of.

        `defaults` gives what the policy in force adds to demands, `unit` is the bytes of a slice.
        """
        self._client = client
        self._known = known
        self._defaults = defaults
        self._unit = unit

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Has kopf call it for pods that are created."""
        kopf.on.mutate("", "v1", "pods", id=HANDLER, operations=["CREATE"], registry=registry)(self.admit)

    async def admit(self, body: kopf.Body, patch: kopf.Patch, warnings: list[str], **_: Any) -> None:
        """Adds the changes to `patch`.

        Raises:
            kopf.AdmissionError: the pod is refused (403), or its allocation cannot be read now (503).
        """
        try:
            pod = msgspec.convert(dict(body), Pod)
            admission = decide(pod, named=await self._named(pod), defaults=self._defaults(), unit=self._unit)
        except (RefusedError, msgspec.ValidationError) as error:
            _log.info("pod refused reason=%s", error)
            raise kopf.AdmissionError(str(error), code=_FORBIDDEN) from error
        warnings.extend(admission.warnings)
        patch.fns.append(lambda raw: admission.apply(cast("dict[str, Any]", raw)))

    async def _named(self, pod: Pod) -> Named | None:
        """The allocation read live, since a pod may follow its allocation by milliseconds.

        Where the API server is too busy for that, what is known of it is as good as a pod of a moment ago.
        """
        name = allocation_named(pod)
        if name is None:
            return None
        namespace = pod.metadata.namespace
        if _OBJECT_NAME.fullmatch(name) is None:
            return Named(name=name, found=None, others=await self._others(namespace))
        found: GpuAllocation | None
        try:
            found = await self._client.get(GPU_ALLOCATIONS, name, namespace=namespace, within=LOOKUP_SECONDS)
        except NotFound:
            return Named(name=name, found=None, others=await self._others(namespace))
        except KubeError as error:
            found = self._known.get(ObjectKey(namespace, name))
            if found is None:
                raise kopf.AdmissionError(
                    f'pod {namespace}/{pod.metadata.name}: GpuAllocation "{name}" cannot be read now; try again.',
                    code=_UNAVAILABLE,
                ) from error
            _log.warning("allocation not read live namespace=%s name=%s error=%s", namespace, name, error)
        return Named(name=name, found=found)

    async def _others(self, namespace: str) -> tuple[str, ...]:
        try:
            listed = await self._client.list(GPU_ALLOCATIONS, namespace=namespace, within=LOOKUP_SECONDS)
        except KubeError as error:
            _log.warning("no nearest name namespace=%s error=%s", namespace, error)
            return ()
        return tuple(allocation.metadata.name for allocation in listed)
