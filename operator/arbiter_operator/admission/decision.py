"""What a pod becomes when it is created, decided from the pod and the GpuAllocation that it names. Pure.

From then on the pod describes itself: extender, operator and agent read the frozen demand, never the GpuAllocation.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from arbiter.demand import (
    SPEC_FIELDS,
    Demand,
    DemandDefaults,
    DemandRequest,
    FieldNames,
    InvalidDemandError,
    resolve,
)
from arbiter.units import QuantityError, Slices, format_bytes, slices_for
from arbiter.workload import Priority
from arbiter_kube.api import GROUP, SCHEDULER_NAME, VRAM_RESOURCE
from arbiter_kube.api import annotations as a
from arbiter_kube.api.annotations import FrozenDemand
from arbiter_kube.api.gpuallocation import GpuAllocation
from arbiter_kube.api.objects import Pod
from arbiter_kube.api.pods import fixed_demand
from arbiter_operator.admission.classes import PREEMPTION_POLICY, priority_class
from arbiter_operator.admission.containers import (
    asks_for_memory,
    gpu_container,
    refuse_reserved_environment,
    slices_asked,
)
from arbiter_operator.admission.errors import RefusedError

_DEFAULT_SCHEDULER = "default-scheduler"

_TO_ASK = {
    a.DEMAND: f"to ask for memory write {a.WORKLOAD_TYPE}",
    a.QUALITY_TARGET: f"to ask for a minimum write {a.QUALITY_MINIMUM}",
    a.VRAM_TARGET: f"to ask for a size write {a.VRAM_FULL}",
    a.GPUS: f"to ask for several GPUs write {a.GPU_COUNT}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The GpuAllocation that a pod names: what was found, and the names of the others where it was not."""

    name: str
    found: GpuAllocation | None
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The changes to a pod that is let in. `frozen` is None for one that asks for no memory."""

    frozen: FrozenDemand | None
    slices: Slices
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def apply(self, body: dict[str, Any]) -> None:
        """Makes the changes in the pod's manifest."""
        annotations = body["metadata"].get("annotations") or {}
        for key in self.left_out:
            annotations.pop(key, None)
        if self.frozen is not None:
            annotations[a.DEMAND] = a.encode_demand(self.frozen)
            self._apply_to_spec(body["spec"], self.frozen)
        body["metadata"]["annotations"] = annotations

    def _apply_to_spec(self, spec: dict[str, Any], frozen: FrozenDemand) -> None:
        container = next(container for container in spec["containers"] if container["name"] == frozen.container)
        resources = container.get("resources") or {}
        resources["limits"] = (resources.get("limits") or {}) | {VRAM_RESOURCE: str(self.slices)}
        container["resources"] = resources
        spec["schedulerName"] = SCHEDULER_NAME
        # The API server has already filled these three in, and takes a class only with the other two in step.
        chosen = priority_class(frozen.demand.priority)
        spec["priorityClassName"], spec["priority"] = chosen.name, chosen.value
        spec["preemptionPolicy"] = PREEMPTION_POLICY


def allocation_named(pod: Pod) -> str | None:
    """The name of the GpuAllocation that has to be read before the decision."""
    return pod.metadata.annotations.get(a.ALLOCATION)


def decide(pod: Pod, *, named: Named | None, defaults: DemandDefaults, unit: int) -> Admission:
    """What the pod becomes; `unit` is the bytes of one slice.

    Raises:
        RefusedError: it asks for something that cannot be; the sentence begins with the pod's name.
    """
    try:
        return _decide(pod, named=named, defaults=defaults, unit=unit)
    except (RefusedError, InvalidDemandError) as error:
        raise RefusedError(f"pod {_display_name(pod)}: {error}") from error


def _decide(pod: Pod, *, named: Named | None, defaults: DemandDefaults, unit: int) -> Admission:
    left_out = tuple(key for key in a.ARBITER_KEYS if key in pod.metadata.annotations)
    warnings = (*map(_left_out_warning, left_out), *_unknown_key_warnings(pod))
    wanted = _wanted(pod, named)
    if wanted is None and not asks_for_memory(pod):
        if a.CONTAINER in pod.metadata.annotations:
            raise RefusedError(
                f"{a.CONTAINER} alone asks for nothing; write {a.WORKLOAD_TYPE} or {a.ALLOCATION} beside it."
            )
        return Admission(frozen=None, slices=Slices(0), left_out=left_out, warnings=warnings)
    container = gpu_container(pod)
    refuse_reserved_environment(pod.spec)
    _refuse_foreign_placement(pod)
    asked = slices_asked(pod, unit=unit)
    frozen = FrozenDemand(
        demand=fixed_demand(asked * unit) if wanted is None else wanted.demand(asked, defaults=defaults, unit=unit),
        container=container,
        allocation=None if named is None else named.name,
        allocation_uid=None if named is None or named.found is None else named.found.metadata.uid,
        generation=None if named is None or named.found is None else named.found.metadata.generation,
        asked=asked,
    )
    return Admission(
        frozen=frozen,
        slices=reserved_slices(frozen.demand, unit=unit),
        left_out=left_out,
        warnings=(*warnings, *_class_warning(pod, frozen.demand.priority)),
    )


def reserved_slices(demand: Demand, *, unit: int) -> Slices:
    """What the kubelet has to reserve: the floor in whole slices, on each GPU."""
    return Slices(slices_for(demand.floor, unit=unit) * demand.gpu_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A demand as it was written, how its writer calls the fields, and what sentences about it begin with."""

    request: DemandRequest
    names: FieldNames
    prefix: str = ""

    def demand(self, asked: Slices, *, defaults: DemandDefaults, unit: int) -> Demand:
        """The demand; where the template asks for slices, these are the floor.

        Raises:
            RefusedError: it contradicts itself, or the template.
        """
        request, names = self.request, self.names
        if asked:
            names = {**names, "floor": f"the container's {VRAM_RESOURCE}"} if request.floor is None else names
            request = replace(request, floor=self._floor_of(asked, unit=unit))
        try:
            return resolve(request, defaults=defaults, names=names)
        except InvalidDemandError as error:
            raise RefusedError(f"{self.prefix}{error}") from error

    def _floor_of(self, asked: Slices, *, unit: int) -> int:
        count = self.request.gpu_count
        # A count out of range is refused with the other fields, below.
        each, rest = divmod(asked, max(1, count))
        if rest:
            raise RefusedError(
                f'{VRAM_RESOURCE} "{asked}" cannot be divided by {count} GPUs; write a multiple of {count}.'
            )
        if self.request.floor is not None:
            return self._stated_floor(self.request.floor, asked, each, unit=unit)
        full = (
            self.request.full if self.request.full is not None else self.request.workload_type.defaults.typical_memory
        )
        # A full size that fills its last slice only in part is meant where the slices just cover it.
        return full if slices_for(full, unit=unit) == each else each * unit

    def _stated_floor(self, floor: int, asked: Slices, each: int, *, unit: int) -> int:
        if slices_for(floor, unit=unit) == each:
            return floor
        right = slices_for(floor, unit=unit) * self.request.gpu_count
        raise RefusedError(
            f'{VRAM_RESOURCE} "{asked}" contradicts {self.prefix}{self.names["floor"]} {format_bytes(floor)}, '
            f'which is "{right}"; leave one of the two out.'
        )


def _wanted(pod: Pod, named: Named | None) -> Wanted | None:
    request = a.inline_request(pod.metadata.annotations)
    if named is None:
        return None if request is None else Wanted(request=request, names=a.INLINE_FIELDS)
    if request is not None:
        written = next(key for key in a.INLINE_KEYS if key in pod.metadata.annotations)
        raise RefusedError(f"{a.ALLOCATION} and {written} exclude each other; leave one of them out.")
    if named.found is None:
        raise RefusedError(_missing(pod, named))
    prefix = f'GpuAllocation "{named.name}": '
    try:
        return Wanted(request=named.found.spec.request(), names=SPEC_FIELDS, prefix=prefix)
    except (QuantityError, ValueError) as error:
        raise RefusedError(f"{prefix}{error}.") from error


def _missing(pod: Pod, named: Named) -> str:
    nearest = get_close_matches(named.name, named.others, n=1)
    hint = f' Nearest name: "{nearest[0]}".' if nearest else ""
    return f'no GpuAllocation "{named.name}" in namespace {pod.metadata.namespace}; apply it first.{hint}'


def _refuse_foreign_placement(pod: Pod) -> None:
    if pod.node is not None:
        raise RefusedError(
            f'spec.nodeName "{pod.node}" would bypass {SCHEDULER_NAME}; leave it out and write a nodeSelector.'
        )
    if pod.spec.scheduler_name not in ("", _DEFAULT_SCHEDULER, SCHEDULER_NAME):
        raise RefusedError(
            f'spec.schedulerName "{pod.spec.scheduler_name}" cannot place GPU memory; '
            f"leave it out, {SCHEDULER_NAME} does."
        )


def _left_out_warning(key: str) -> str:
    hint = _TO_ASK.get(key)
    return f"{key} is written by Arbiter and was left out{f'; {hint}' if hint else ''}."


def _unknown_key_warnings(pod: Pod) -> Iterable[str]:
    known = (*a.PEOPLE_KEYS, *a.ARBITER_KEYS)
    for key in sorted(pod.metadata.annotations):
        if key.startswith(f"{GROUP}/") and key not in known:
            nearest = get_close_matches(key, a.PEOPLE_KEYS, n=1)
            yield f"{key} means nothing to Arbiter.{f' Nearest name: {nearest[0]}.' if nearest else ''}"


def _class_warning(pod: Pod, priority: Priority) -> Iterable[str]:
    given, chosen = pod.spec.priority_class_name, priority_class(priority).name
    if given and given != chosen:
        yield f'spec.priorityClassName "{given}" was replaced by "{chosen}", as {a.PRIORITY} or its GpuAllocation says.'


def _display_name(pod: Pod) -> str:
    """Pods that a controller makes have no name yet when they are decided on."""
    metadata = pod.metadata
    return f"{metadata.namespace}/{metadata.name or f'{metadata.generate_name}*'}"
