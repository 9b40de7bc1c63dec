"""Which of a pod's containers gets GPU memory, and what its template already asks for. Pure."""

from collections.abc import Iterable

from arbiter.units import Slices, format_bytes
from arbiter_kube.api import VRAM_RESOURCE
from arbiter_kube.api import annotations as a
from arbiter_kube.api.objects import Container, Pod, PodSpec
from arbiter_operator.admission.errors import RefusedError

_RESERVED_NAMES = ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
_RESERVED_PREFIX = "ARBITER_"


def gpu_container(pod: Pod) -> str:
    """The name of the one container that gets GPU memory.

    Raises:
        RefusedError: none, several, or one that is no ordinary container.
    """
    spec = pod.spec
    named = pod.metadata.annotations.get(a.CONTAINER)
    asking = [container.name for container in spec.containers if _quantity(container)]
    aside = [container.name for container in spec.init_containers if _quantity(container)]
    if aside:
        raise RefusedError(
            f'{_kind(spec, aside[0])} "{aside[0]}" asks for {VRAM_RESOURCE}; move it to an ordinary container.'
        )
    if len(asking) > 1:
        raise RefusedError(
            f"containers {_quoted(asking)} ask for {VRAM_RESOURCE}; only one container of a pod may hold GPU memory."
        )
    if named is not None:
        return _named(spec, named, asking)
    if asking:
        return asking[0]
    if len(spec.containers) == 1:
        return spec.containers[0].name
    names = [container.name for container in spec.containers]
    raise RefusedError(f"containers {_quoted(names)}: write in {a.CONTAINER} which one of them gets GPU memory.")


def _named(spec: PodSpec, named: str, asking: list[str]) -> str:
    if named in (container.name for container in spec.init_containers):
        raise RefusedError(
            f'{a.CONTAINER} "{named}" is {_article(_kind(spec, named))}; name one of spec.containers instead.'
        )
    names = [container.name for container in spec.containers]
    if named not in names:
        raise RefusedError(f'{a.CONTAINER} "{named}" is no container of the pod; write one of {_quoted(names)}.')
    if asking and asking != [named]:
        raise RefusedError(
            f'{a.CONTAINER} is "{named}", but container "{asking[0]}" asks for {VRAM_RESOURCE}; name the same one.'
        )
    return named


def slices_asked(pod: Pod, *, unit: int) -> Slices:
    """What the ordinary containers' templates ask for in all, in slices of `unit` bytes; 0 where they do not.

    Raises:
        RefusedError: a quantity that is no whole number of slices.
    """
    return Slices(sum(_whole(container, unit=unit) for container in pod.spec.containers))


def asks_for_memory(pod: Pod) -> bool:
    """Whether any container of the pod asks for the extended resource."""
    return any(_quantity(container) for container in (*pod.spec.containers, *pod.spec.init_containers))


def refuse_reserved_environment(spec: PodSpec) -> None:
    """Arbiter's own variables, and those that choose GPUs, come from the node alone.

    Raises:
        RefusedError: a container sets one of them.
    """
    for container in (*spec.init_containers, *spec.containers):
        for variable in container.env:
            if variable.name in _RESERVED_NAMES or variable.name.startswith(_RESERVED_PREFIX):
                raise RefusedError(
                    f'container "{container.name}" sets {variable.name}, which Arbiter sets on the node; leave it out.'
                )


def _quantity(container: Container) -> str:
    """The quantity as it is written; empty for none. Requests without limits count: limits follow them here."""
    limits, requests = container.resources.limits, container.resources.requests
    text = limits.get(VRAM_RESOURCE) or requests.get(VRAM_RESOURCE) or ""
    return "" if text == "0" else text


def _whole(container: Container, *, unit: int) -> int:
    text = _quantity(container) or "0"
    # 1k is how the API server writes 1000. 10Gi would be ten thousand million slices, which nobody means.
    digits = text.removesuffix("k")
    if not digits.isdecimal():
        raise RefusedError(
            f'container "{container.name}" asks for {VRAM_RESOURCE} "{text}", which counts units of '
            f'{format_bytes(unit)}; write a whole number such as "10".'
        )
    return int(digits) * (1 if digits == text else 1000)


def _kind(spec: PodSpec, name: str) -> str:
    sidecars = (container.name for container in spec.init_containers if container.restart_policy == "Always")
    return "sidecar" if name in sidecars else "init container"


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
